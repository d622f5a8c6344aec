"""The table of Scripts/bench-peer: each row a ratio against a peer, printed as soon as it is known."""
import functools
import json
import pathlib
import shutil
import statistics
import sys
import tempfile

import measure
from measure import TURN, Failed, in_turn, last_line, median, processors, ratio, steps_in_turn
from step import FOLDER, Step, ours, peers, show_same
from transfer import Transfer

SMALL = Step("resnet18", 32, 64)
LARGE = Step("resnet50", 224, 8)
TUNED = {Transfer("finetune", "resnet18", 32, 64): 2.0, Transfer("finetune", "resnet50", 224, 8): 1.7}
DISTILLED, SEEN = Transfer("distil", "resnet18", 224, 8), Transfer("features", "resnet50", 224, 16)
# Steps of a measurement, so that a round of both sides takes about half a minute.
STEPS = {SMALL: 4, LARGE: 2, DISTILLED: 4, SEEN: 4, **dict.fromkeys(TUNED, 4)}
RECIPE = FOLDER.parent / "recipes" / "bench-simclr.yaml"
# `apus bench views` warms up on 256 images, so that both sides load each photograph once.
PHOTOGRAPHS = 256
SECONDS = 5
# Of the full run: warm-up steps and timed steps, both multiples of the recipe's `log`. When the clock stops, the loader
# must have as many batches ahead as when it starts, so the run is longer by that number (`ahead`).
WARM, TIMED, AHEAD, BATCH = 10, 20, 3, 16


def against(program, step, pairs, steps, cpus, *options, peer="PyTorch"):
    """Rounds of PyTorch's step and ours."""
    count = ["--steps", str(steps)]
    return in_turn(
        str(step), pairs, **{peer: lambda: last_line(peers(step, *count, *options), cpus),
                             "apus": lambda: last_line(ours(program, step, *count), cpus)})


class Table:
    """Measures rows and keeps what more than one of them needs."""

    def __init__(self, program, pairs, folder):
        self.program, self.pairs, self.folder = program, pairs, pathlib.Path(folder)
        self.rows = []
        print("| # | measured | apus | peer | ratio | must reach | | pairs |")
        print("|---|---|---|---|---|---|---|---|", flush=True)

    def row(self, number, what, own, other, value, required=None, *, at_most=False, pairs=None, **more):
        """Prints a row and keeps it. `value` is the ratio; `required` is what it must reach, None for a report."""
        pairs = pairs or self.pairs
        holds = None if required is None else value <= required if at_most else value >= required
        bound = "report" if required is None else f"{'≤' if at_most else '≥'} {required}"
        verdict = {None: "", True: "holds", False: "**short**"}[holds]
        print(f"| {number} | {what} | {own} | {other} | {value:.2f} | {bound} | {verdict} | {pairs} |", flush=True)
        self.rows.append({"row": number, "measured": what, "apus": own, "peer": other, "ratio": value,
                          "required": required, "holds": holds, "pairs": pairs, **more})

    def note(self, number, what, words, **more):
        print(f"| {number} | {what} | {words} | | | | | |", flush=True)
        self.rows.append({"row": number, "measured": what, "note": words, **more})

    # Steps on one core: rows 1 to 4

    @functools.cached_property
    def core(self):
        return processors(1)

    @functools.cache
    def fp32(self, step):
        """Rounds against PyTorch's fp32, after both were shown to compute the same."""
        own, theirs = show_same(self.program, step, self.core)
        shown = {"peer_name": theirs["peer"], **own, **{"peer_" + key: theirs[key] for key in own}}
        return against(self.program, step, self.pairs, STEPS[step], self.core), shown

    def speed(self, number, what, rounds, peer, required, **more):
        own, other = median(rounds, "apus"), median(rounds, peer)
        value = ratio(rounds, "apus", peer)
        self.row(number, what, f"{own:.1f} views/s", f"{other:.1f} views/s", value, required, **more)

    def fp32_row(self, number, step, required):
        rounds, shown = self.fp32(step)
        self.speed(number, f"{step}, against PyTorch fp32", rounds, "PyTorch", required, **shown)

    def frozen(self, number):
        """A step whose encoder is frozen, against inference and classifier alone."""
        for tuned in TUNED:
            step = tuned._replace(kind="frozen")
            show_same(self.program, step, self.core)
            inference = tuned._replace(kind="features")
            count = ["--steps", "8"]
            rounds = in_turn(
                str(step), self.pairs,
                inference=lambda: last_line(ours(self.program, inference, "--classes", "10", *count), self.core),
                step=lambda: last_line(ours(self.program, step, *count), self.core))
            seconds = [f"{median(rounds, side, 'seconds'):.3f} s" for side in ("step", "inference")]
            self.row(number, f"{step}: its time; the peer is our own inference and classifier", *seconds,
                     ratio(rounds, "step", "inference", "seconds"), 1.05, at_most=True)

    def bf16(self):
        if not measure.has_bf16():
            return self.note(3, "our fp32 against PyTorch's bf16 autocast", "this processor has no bf16 instructions")
        for step, required in ((SMALL, 1.0), (LARGE, None)):
            rounds = against(self.program, step, self.pairs, STEPS[step], self.core, "--bf16", peer="PyTorch bf16")
            self.speed(3, f"{step}, our fp32 against PyTorch's bf16 autocast", rounds, "PyTorch bf16", required)

    def memory(self):
        for step in (SMALL, LARGE):
            rounds, _ = self.fp32(step)
            key = "peak_rss_mb"
            own, other = median(rounds, "apus", key), median(rounds, "PyTorch", key)
            self.row(4, f"{step}, peak resident memory", f"{own:.0f} MiB", f"{other:.0f} MiB",
                     ratio(rounds, "apus", "PyTorch", key), 0.6, at_most=True)

    # Photographs: rows 5 and 9

    @functools.cached_property
    def photographs(self):
        """JPEGs in a folder, and what they are."""
        folder = self.folder / "photographs"
        maker = [sys.executable, str(FOLDER / "photographs.py"), str(folder), "--count", str(PHOTOGRAPHS)]
        made = last_line(maker, self.core)
        size = f"{made['width']} × {made['height']}"
        measure.say(f"{made['count']} JPEGs of {size}, {made['mean_bytes'] / 1024:.1f} KiB each")
        return folder, made

    @functools.cached_property
    def shards(self):
        """The same, packed."""
        folder, _ = self.photographs
        packed = self.folder / "shards"
        measure.quiet([self.program, "pack", str(folder), str(packed), "--unlabelled", "--threads", "1"], self.core)
        return packed

    def views(self):
        own = [self.program, "bench", "views", str(RECIPE), "--data", str(self.shards), "--json",
               "--seconds", str(SECONDS)]
        folder, made = self.photographs
        first = last_line(own, self.core)
        other = [sys.executable, str(FOLDER / "torch_views.py"), str(folder), "--views", json.dumps(first["views"]),
                 "--seconds", str(SECONDS)]
        rounds = in_turn("views", self.pairs, "images_per_second", torchvision=lambda: last_line(other, self.core),
                         apus=lambda: last_line(own, self.core))
        theirs = rounds[0]["torchvision"]
        # The images are the same but the random draws differ: means may differ by four standard errors of both sides,
        # deviations by 10 %.
        for key, allowed in (("mean", 4 * 2 ** 0.5 * theirs["mean_error"]), ("deviation", 0.1)):
            difference = abs(first[key] - theirs[key])
            measure.say(f"views: {key} torchvision {theirs[key]:.3f}, apus {first[key]:.3f}, allowed {allowed:.3f}")
            if not difference <= allowed:
                raise Failed(f"not the same work: the {key} of the views' values differs by {difference:.3f}, "
                             f"allowed {allowed:.3f}")
        key, size = "images_per_second", f"{made['mean_bytes'] / 1024:.0f} KiB"
        what = (f"two views at 224 px of a {made['width']} × {made['height']} JPEG of {size}, one core, "
                "against torchvision on PIL")
        own_speed, their_speed = median(rounds, "apus", key), median(rounds, "torchvision", key)
        self.row(5, what, f"{own_speed:.0f} images/s", f"{their_speed:.1f} images/s",
                 ratio(rounds, "apus", "torchvision", key), 8.0, peer_name=theirs["peer"],
                 mean_bytes=made["mean_bytes"], mean=first["mean"], peer_mean=theirs["mean"],
                 deviation=first["deviation"], peer_deviation=theirs["deviation"])

    def whole_run(self, cpus):
        """Views a second of `apus pretrain`, by the clock that its metrics carry."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        measure.quiet(
            [self.program, "pretrain", str(RECIPE), "--data", str(self.shards), "--run", str(run), "--threads", "1",
             "--set", f"length={WARM + TIMED + AHEAD} steps", "--set", f"batch={BATCH}", "--set", f"data.ahead={AHEAD}",
             "--set", f"log={WARM} steps", "--set", "checkpoint.every=1000 steps"], cpus)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        clock = {line["step"]: line["timing"]["seconds"] for line in lines if "timing" in line}
        if not {WARM, WARM + TIMED} <= clock.keys():
            raise Failed(f"{run}/metrics.jsonl has timing of steps {sorted(clock)}, "
                         f"expected {WARM} and {WARM + TIMED} among them")
        return {"views_per_second": 2 * BATCH * TIMED / (clock[WARM + TIMED] - clock[WARM])}

    def training(self):
        step = Step("resnet18", 224, BATCH)
        sides = {"bare step": lambda: last_line(ours(self.program, step, "--steps", "6"), self.core),
                 "whole run": lambda: self.whole_run(self.core)}
        two = None
        try:
            two = processors(2)
            sides["whole run, loader on another core"] = lambda: self.whole_run(two)
        except Failed:
            measure.say("row 9: one processor, so the loader is not tried on one of its own")
        _ = self.shards
        rounds = in_turn("training", self.pairs, **sides)
        for name in list(sides)[1:]:
            cores = "one core" if name == "whole run" else "the loader's thread on a second core"
            what = f"a full run from JPEG shards, {step}, one compute thread, {cores}; the peer is its own bare step"
            required = 0.95 if name == "whole run" else None
            self.row(9, what, f"{median(rounds, name):.1f} views/s", f"{median(rounds, 'bare step'):.1f} views/s",
                     ratio(rounds, name, "bare step"), required)

    # Two cores: rows 6 and 10

    def stepping(self, step, rounds):
        return ours(self.program, step, "--steps", str(rounds), "--turns", TURN)

    def two_ranks(self, rounds):
        """Each on a core of its own, as independent processes are; a launcher's own binding may differ."""
        first, second = (["-n", "1", "taskset", "-c", str(cpu), *self.stepping(SMALL, rounds)] for cpu in processors(2))
        return ["mpirun", "--bind-to", "none", *first, ":", *second]

    def scaling(self):
        # If other work shares the machine, the speed of the cores changes from one second to the next. So the median is
        # over more rounds, and a round is one step of each side.
        rounds, cpus = 9 * self.pairs, processors(2)
        both = SMALL._replace(images=2 * SMALL.images, threads=2)
        steps, results = steps_in_turn(
            "scaling", rounds, alone=[(self.stepping(SMALL, rounds), [cpu]) for cpu in cpus],
            ranks=[(self.two_ranks(rounds), cpus)], threads=[(self.stepping(both, rounds), cpus)])
        ranks = results["ranks"]
        if ranks["ranks"] != 2:
            raise Failed(f"mpirun started {ranks['ranks']} rank(s) that know of each other, not 2: "
                         "it is not the MPI that apus was built with")
        alone = f"{median(steps, 'alone'):.1f} views/s"
        for name, what in (("ranks", "2 ranks × 1 thread, global BN"), ("threads", "1 rank × 2 threads")):
            self.row(6, f"{what}, ResNet-18, 32 px, 64 images a core; the peer is two independent ranks at once",
                     f"{median(steps, name):.1f} views/s", alone, ratio(steps, name, "alone"), 0.95, pairs=rounds,
                     each=[round(r[name]["views_per_second"] / r["alone"]["views_per_second"], 3) for r in steps])
        # Loss due to unequal cores, for any program whose ranks synchronise once per step, even without communication.
        together = statistics.median(r["alone"]["waiting_for_all"] for r in steps)
        meeting = statistics.median(r["ranks"]["views_per_second"] / r["alone"]["waiting_for_all"] for r in steps)
        self.row(6, "2 ranks × 1 thread, against independent ranks that wait for one another after each step",
                 f"{median(steps, 'ranks'):.1f} views/s", f"{together:.1f} views/s", round(meeting, 3), pairs=rounds)
        seconds, exposed = ranks["mean_seconds"], ranks["exposed"]
        for spent, required, what in (
                (exposed["gradients"] + exposed["rest"], 0.05, "communication that the step waits for"),
                (exposed["waiting"], None, "waiting for the slower of two unequal cores")):
            self.row(6, f"2 ranks × 1 thread: {what}", f"{spent:.3f} s", f"{seconds:.3f} s a step", spent / seconds,
                     required, at_most=True, pairs=rounds)

    def ddp(self):
        rounds, cpus = 3 * self.pairs, processors(2)
        words = ["--steps", str(rounds), "--turns", TURN]
        ddp = peers(SMALL, *words, "--processors", ",".join(map(str, cpus)), script="torch_ddp.py")
        steps, _ = steps_in_turn(
            "DDP", rounds,
            ranks=[(self.two_ranks(rounds), cpus)],
            alone=[(peers(SMALL, *words), [cpu]) for cpu in cpus],
            DDP=[(ddp, cpus)])
        theirs = f"{median(steps, 'DDP'):.1f} views/s"
        self.row(10, "2 ranks × 1 thread, global BN, against PyTorch DDP over gloo, local BN",
                 f"{median(steps, 'ranks'):.1f} views/s", theirs, ratio(steps, "ranks", "DDP"), pairs=rounds)
        self.row(10, "PyTorch DDP over gloo, local BN, against two independent PyTorch processes at once",
                 f"{theirs} (DDP)", f"{median(steps, 'alone'):.1f} views/s", ratio(steps, "DDP", "alone"), pairs=rounds)

    # Two hosts: row 7

    def overlap(self):
        command = [str(FOLDER.parent / "two-hosts"), *ours(self.program, SMALL, "--steps", "3")]
        exposed = in_turn("two hosts", self.pairs, **{"apus": lambda: last_line(command, processors(2))})
        exposed = [r["apus"]["exposed"] for r in exposed]
        hidden = [1 - e["gradients"] / e["gradients_unhidden"] for e in exposed]
        self.row(7, "two hosts over 1 Gbit/s: share of the gradients' communication that is hidden behind backward",
                 f"{statistics.median(e['gradients'] for e in exposed):.3f} s exposed",
                 f"{statistics.median(e['gradients_unhidden'] for e in exposed):.3f} s without overlap",
                 statistics.median(hidden), 0.8, each=hidden)

    def allocations(self):
        self.note(8, "allocations on the compute threads after the first step", "a test, not a bench: Scripts/test")


ROWS = {
    1: lambda t: t.fp32_row(1, SMALL, 2.0),
    2: lambda t: t.fp32_row(2, LARGE, 1.7),
    3: Table.bf16,
    4: Table.memory,
    5: Table.views,
    6: Table.scaling,
    7: Table.overlap,
    8: Table.allocations,
    9: Table.training,
    10: Table.ddp,
    11: lambda t: [t.fp32_row(11, step, required) for step, required in TUNED.items()],
    12: lambda t: t.fp32_row(12, DISTILLED, 1.8),
    13: lambda t: t.frozen(13),
    14: lambda t: t.fp32_row(14, SEEN, 1.7),
}


def run(program, rows, pairs):
    """Prints the table; a row that cannot be measured says why, and the others go on."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        table = Table(program, pairs, folder)
        for number in rows:
            try:
                ROWS[number](table)
            except Failed as error:
                measure.say(f"row {number}: {error}")
                table.note(number, "could not be measured", str(error).splitlines()[0].replace("|", "/"), failed=True)
                failed.append(number)
    short = [row["row"] for row in table.rows if row.get("holds") is False]
    return {"rows": table.rows, "short": sorted(set(short)), "failed": failed}
