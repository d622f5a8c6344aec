"""The studies of HPT's article in small: base Fashion-MNIST, source the unlabelled tiles of graytiles, target the
labelled ones. Called by Scripts/hpt."""
import argparse
import json
import os
import sys

import sweep
from sweep import Failed, fingerprint, percent, say

# Every stage of every study is this recipe: from scratch as it is, after another stage with that one's encoder.
RECIPE = "target-small"
BASE_STEPS, STEPS = 640, 160
LENGTHS = [10, 40, 160, 640]
BATCH = 64
HPT, HPT_BN, TARGET, BASE = "HPT", "HPT-BN", "Target", "Base"
NORMALISATION_ALONE = (
    "[{part: encoder, trains: false}, {part: encoder, kinds: [scale, shift, mean, variance], trains: true}]")
STATISTICS_ALONE = "[{part: encoder, trains: false}, {part: encoder, kinds: [mean, variance], trains: true}]"
BASE_UPDATES = 40
# What the views do beside the crop, from the recipe's own on.
CROP = "{crop: {scale: [0.2, 1], ratio: [0.75, 1.3333333333333333], interpolation: bilinear}}"
JITTER = "{colour: {probability: 0.8, brightness: 0.4, contrast: 0.4}}"
AUGMENTATIONS = {
    "all": [CROP, JITTER, "{flip: 0.5}"],
    "no jitter": [CROP, "{flip: 0.5}"],
    "no flip": [CROP, JITTER],
    "crop alone": [CROP],
}
# Shares of the target's images that are pre-trained on; a batch has them all where they are few.
SHARES = {"1%": 28, "10%": 288, "25%": 720, "100%": None}
# HPT's fine-tuning: the classifier a hundred times as fast, the rate a tenth after each third. Of its two rates the
# lower: with 0.01 so small a network ends at 6 to 13 %.
FINETUNE_STEPS = 300
FINETUNE = {"batch": 64, "optimizer.rate": 0.001, "optimizer.scaling": "none",
            "parameters": "[{part: classifier, rate: 100}]", "monitor.every": "0 steps"}
STUDIES = ["steps", "labels", "sequence", "augmentations", "share"]


def words(sets):
    return [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


def name_of(result):
    """`linear` or `knn-20`."""
    k = result["options"].get("k")
    return result["name"] if k is None else f"{result['name']}-{int(k)}"


class Studies:
    """Jobs of sweep.sweep, by wave: what another one starts from comes before it."""

    def __init__(self, apus, options):
        self.apus, self.options = apus, options
        self.resolved, self.finetune = apus.resolved(RECIPE), apus.resolved("finetune")
        self.waves, self.runs = [[], [], []], {}

    def set(self, name):
        return os.path.join(self.options.data, name)

    def stage(self, wave, seed, name, data, steps, start=None, **sets):
        """A pre-training, once, whichever studies need it. Returns the name of its run."""
        sets = {**sets, "seed": seed, "length": sweep.steps(steps, self.options.shorter)}
        mark = fingerprint(self.resolved, name, data, json.dumps(sets, sort_keys=True), start or "")
        run = f"{name}-{mark}-seed{seed}".replace(" ", "-")
        if run in self.runs:
            return run
        folder = os.path.join(self.options.work, run)
        if start:
            source = os.path.join(self.options.work, start)
            sets["start"] = f"{{from: run {source}, carry: [encoder]}}"
        keys = {"run": name, "seed": seed, "recipe": mark}

        def call():
            own = ["--set", "data.set=own", "--data", f"own={self.set(data)}", "--data", f"target={self.set('target')}"]
            self.apus.run(f"{folder}.log", "pretrain", RECIPE, *own, "--run", folder, "--threads", "1", *words(sets))
            with open(os.path.join(folder, "evaluations.json"), encoding="utf-8") as file:
                results = json.load(file)["evaluations"][-1]["results"]
            found = {name_of(result): result["scores"][0] for result in results}
            return {key: [score["hits"], score["trials"]] for key, score in found.items()}, None
        self.runs[run] = keys
        self.waves[wave].append((keys, f"{name} on {data}, {steps} steps, {mark}, seed {seed}", call))
        return run

    def tuned(self, start, seed, name):
        """A fine-tuning with few labels of the target; from scratch where it starts from nothing."""
        lengths = [sweep.steps(FINETUNE_STEPS * third // 3, self.options.shorter) for third in (1, 2, 3)]
        sets = {"length": lengths[2], **FINETUNE, "schedule": f"{{name: step, at: [{lengths[0]}, {lengths[1]}]}}",
                "seed": seed}
        if start is None:  # any run of the encoder's shape says what it looks like
            sets["start.from"] = "nothing"
        source = os.path.join(self.options.work, start or self.base(seed))
        mark = fingerprint(self.finetune, json.dumps(sets, sort_keys=True), os.path.basename(source),
                           self.options.labels)
        folder = os.path.join(self.options.work, f"labels-{name}-{mark}-seed{seed}".replace(" ", "-"))
        keys = {"run": f"{self.options.labels} labels, {name}", "seed": seed, "recipe": mark}

        def call():
            self.apus.run(f"{folder}.log", "finetune", source, "--data", self.set("target"), "--labels",
                          str(self.options.labels), "--layers", "0", "--run", folder, "--threads", "1", *words(sets))
            with open(os.path.join(folder, "classifiers.json"), encoding="utf-8") as file:
                score = json.load(file)[-1]["accuracy"]
            return {"right": [score["hits"], score["trials"]]}, None
        self.runs[os.path.basename(folder)] = keys
        self.waves[-1].append((keys, f"{self.options.labels} labels, {name}, seed {seed}", call))
        return os.path.basename(folder)

    # The models of the article.

    def base(self, seed):
        return self.stage(0, seed, "base", "base", BASE_STEPS)

    def updated(self, seed):
        """Base: the running statistics alone move to the target."""
        return self.stage(1, seed, BASE, "target", BASE_UPDATES, self.base(seed), parameters=STATISTICS_ALONE)

    def target(self, seed, steps=STEPS, **sets):
        return self.stage(1, seed, TARGET, "target", steps, **sets)

    def hpt(self, seed, steps=STEPS, **sets):
        return self.stage(1, seed, HPT, "target", steps, self.base(seed), **sets)

    def hpt_bn(self, seed, steps=STEPS, **sets):
        return self.stage(1, seed, HPT_BN, "target", steps, self.base(seed), parameters=NORMALISATION_ALONE, **sets)

    def source(self, seed):
        return self.stage(1, seed, "B+S", "source", STEPS, self.base(seed))

    def sequence(self, seed):
        return self.stage(2, seed, "B+S+T", "target", STEPS, self.source(seed))

    # The studies: for each seed, curve or row, and point, the run whose result it is.

    def points(self, study, seed):
        if study == "steps":
            for steps in LENGTHS:
                yield HPT, steps, self.hpt(seed, steps)
                yield HPT_BN, steps, self.hpt_bn(seed, steps)
                yield TARGET, steps, self.target(seed, steps)
            for steps in LENGTHS:  # a level, to compare with
                yield BASE, steps, self.updated(seed)
        elif study == "labels":
            yield "from scratch", "", self.tuned(None, seed, "from scratch")
            for name, run in ((BASE, self.updated(seed)), (TARGET, self.target(seed, max(LENGTHS))),
                              (HPT, self.hpt(seed)), (HPT_BN, self.hpt_bn(seed))):
                yield name, "", self.tuned(run, seed, name)
        elif study == "sequence":
            yield "B", "", self.updated(seed)
            yield "B+T", "", self.hpt(seed)
            yield "B+S", "", self.source(seed)
            yield "B+S+T", "", self.sequence(seed)
        elif study == "augmentations":
            for name, operations in AUGMENTATIONS.items():
                sets = {}
                if name != "all":
                    sets["views.0.operations"] = f"[{', '.join([*operations, '{normalise: dataset}'])}]"
                yield HPT, name, self.hpt(seed, **sets)
                yield TARGET, name, self.target(seed, max(LENGTHS), **sets)
        elif study == "share":
            for name, images in SHARES.items():
                sets = {}
                if images:
                    batch = min(BATCH, images)
                    sets = {"batch": batch, "batchNorm": f"{{shuffle: {batch // 2}}}"}
                data = f"target-{images}" if images else "target"
                for row, steps, start, more in (
                        (HPT, STEPS, self.base(seed), {}),
                        (HPT_BN, STEPS, self.base(seed), {"parameters": NORMALISATION_ALONE}),
                        (TARGET, max(LENGTHS), None, {})):
                    yield row, name, self.stage(1, seed, row, data, steps, start, **sets, **more)


TITLES = {
    "steps": "Separability over steps of 64 images",
    "labels": "Few labels: top-1 in %, mean ± deviation",
    "sequence": "Sequential stages",
    "augmentations": f"Views taken away: HPT after {STEPS} steps, Target after {max(LENGTHS)}",
    "share": f"Share of the target's images: HPT after {STEPS} steps, Target after {max(LENGTHS)}",
}


def found(line):
    """Linear probe and kNN, or the fine-tuned classifier, in %."""
    if not line:
        return None
    return [percent(line["right"])] if "right" in line else [percent(line["linear"]), percent(line["knn-20"])]


def table(study, cells):
    """Markdown: rows and points in their order."""
    rows, points = list(dict.fromkeys(row for row, _ in cells)), list(dict.fromkeys(point for _, point in cells))
    unit = "" if study == "labels" else ", linear probe / kNN in %"
    text = [f"| {TITLES[study]}{unit} | " + " | ".join(map(str, points)) + " |", "|---|" + "---|" * len(points)]
    for row in rows:
        line = []
        for point in points:
            values = [value for value in cells.get((row, point), []) if value]
            line.append(" / ".join(sweep.mean(list(column)) for column in zip(*values)))
        text.append(f"| {row} | " + " | ".join(line) + " |")
    return "\n".join(text)


def drawn(study, cells):
    """What apus figure draws: the curves of the studies whose points are numbers."""
    for (row, point), values in cells.items():
        x = float(point.rstrip("%")) if study == "share" else point
        for seed, value in enumerate(values):
            if value:
                yield {"figure": TITLES[study], "curve": row, "x": x, "y": value[0], "seed": seed, "unit": "%",
                       "axis": "steps" if study == "steps" else "% of the images", "scale": "log"}


def make_sets(apus, options):
    """Source, target and shares of the target, packed from graytiles; base is Fashion-MNIST."""
    tiles = os.path.join(options.graytiles, "tiles")
    with open(os.path.join(tiles, "train.txt"), encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line]
    labelled = [line for line in lines if "\t" in line]
    sets = {"source": ([line for line in lines if "\t" not in line], []), "target/train": (labelled, [])}
    for images in filter(None, SHARES.values()):
        sets[f"target-{images}"] = (labelled, ["--limit", str(images)])
    for name, (listed, more) in sets.items():
        out = os.path.join(options.data, name)
        if os.path.isdir(out):
            continue
        os.makedirs(os.path.dirname(out), exist_ok=True)
        path = os.path.join(options.data, name.replace("/", "-") + ".txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(listed) + "\n")
        apus.words("pack", path, out, "--root", tiles, *more)
    for name, target in (("target/test", os.path.join(options.graytiles, "test")), ("base", options.fashion)):
        link = os.path.join(options.data, name)
        if not os.path.lexists(link):
            os.symlink(os.path.abspath(target), link)


def main():
    parser = argparse.ArgumentParser(prog="Scripts/hpt", description=__doc__)
    sweep.arguments(parser, "Scripts/results/hpt.jsonl", [1, 2, 3], None, "runs/hpt")
    sweep.shorter_argument(parser)
    parser.add_argument("study", nargs="*", help=f"some of {', '.join(STUDIES)} (default: all)")
    parser.add_argument("--labels", type=sweep.positive, default=1000, help="in the study of that name (1000)")
    for name, place in (("graytiles", "data/graytiles"), ("fashion", "data/fashion")):
        parser.add_argument(f"--{name}", default=os.path.normpath(os.path.join(sweep.ROOT, place)))
    parser.add_argument("--page", help="the page with the figures (default: figure.html in --work)")
    parser.set_defaults(data=os.path.normpath(os.path.join(sweep.ROOT, "data/hpt")))
    options = parser.parse_args()
    for study in options.study:
        if study not in STUDIES:
            sys.exit(f"there is no study {study}; there are {', '.join(STUDIES)}")
    sweep.check_data(options.graytiles)
    sweep.check_data(options.fashion)
    results = sweep.Results(options.out)
    apus = sweep.Apus(options.program, options.data, options.ranks, options.work)
    make_sets(apus, options)
    studies = Studies(apus, options)
    cells = {study: {} for study in options.study or STUDIES}
    for study in cells:
        for seed in options.seeds:
            for row, point, run in studies.points(study, seed):
                cells[study].setdefault((row, point), []).append(run)
    if options.plan:
        sweep.tell_plan([job for wave in studies.waves for job in wave], results)
        return
    failures = 0
    for wave in studies.waves:
        failures += sweep.sweep(wave, results, options.ranks)
        if failures:
            break
    measured = {study: {cell: [found(results.find(**studies.runs[run])) for run in runs]
                        for cell, runs in own.items()} for study, own in cells.items()}
    points = [point for study in ("steps", "share") if study in measured for point in drawn(study, measured[study])]
    if points:
        os.makedirs(options.work, exist_ok=True)
        file = os.path.join(options.work, "points.jsonl")
        with open(file, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(point) + "\n" for point in points)
        page = options.page or os.path.join(options.work, "figure.html")
        say(apus.words("figure", file, page, "--title", "Hierarchical pre-training", "--summary",
                       "Linear probe on the target, after stages that start from one another.").strip())
    for study, own in measured.items():
        print(table(study, own) + "\n")
    if failures:
        sys.exit(f"{failures} runs failed; the same command tries them again")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
