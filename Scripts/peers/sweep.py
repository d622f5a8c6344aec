"""The sweep of Scripts/bench-peer: every encoder and size against PyTorch fp32, as work, memory and time allow."""
import json
import pathlib
import time

import measure
import step as steps
from measure import processors, ratio
from table import against

# Whether blocks are bottlenecks, and the blocks of each stage. Repeated here, because the measuring process does not
# import PyTorch.
LAYERS = {"resnet18": (False, (2, 2, 2, 2)), "resnet34": (False, (3, 4, 6, 3)), "resnet50": (True, (3, 4, 6, 3))}
WIDTHS, SIZES, IMAGES = (0.5, 1.0, 2.0), (28, 32, 64, 96, 160, 224), (4, 16, 64)
# Cells with more operations per step are left out. The sweep then takes about 50 minutes on one core of 100 GFLOP/s.
MOST_WORK = 800e9
SHARE_OF_MEMORY = 0.6
SLOWEST = 5
# Share of the time for the first measurement of every cell. The rest is for repeating the slowest.
FIRST_LOOK = 0.85


def demands(step):
    """Operations of a step, forward and backward, and bytes that PyTorch holds at most, about."""
    bottleneck, counts = LAYERS[step.arch]
    planes, expansion = int(64 * step.width), 4 if bottleneck else 1
    operations = elements = parameters = 0

    def convolution(inputs, outputs, kernel, side):
        nonlocal operations, elements, parameters
        weights, area = inputs * outputs * kernel ** 2, side ** 2
        operations += 2 * weights * area
        elements += outputs * area
        parameters += weights

    small = step.size <= 64
    side = step.size if small else -(-step.size // 2)
    convolution(3, planes, 3 if small else 7, side)
    if not small:
        side = -(-side // 2)
    inputs = planes
    for stage, blocks in enumerate(counts):
        inner = planes << stage
        for block in range(blocks):
            before, stride = side, 2 if stage > 0 and block == 0 else 1
            side = -(-before // stride)
            if bottleneck:
                convolution(inputs, inner, 1, before)
                convolution(inner, inner, 3, side)
                convolution(inner, inner * 4, 1, side)
            else:
                convolution(inputs, inner, 3, side)
                convolution(inner, inner, 3, side)
            if stride != 1 or inputs != inner * expansion:
                convolution(inputs, inner * expansion, 1, side)
            inputs = inner * expansion
    views = 2 * step.images
    # Backward is two products of forward's size. Each map is kept before and after its BN; temporaries add a quarter.
    return 3 * operations * views, 2.5 * 4 * elements * views + 12 * parameters + 4e8


def memory():
    """Bytes that may be had without swapping."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise measure.Failed("/proc/meminfo does not say MemAvailable: the sweep cannot tell what fits into memory")


def cells():
    """All of them, the least work first."""
    every = [steps.Step(a, s, n, w) for a in LAYERS for w in WIDTHS for s in SIZES for n in IMAGES]
    return sorted(every, key=lambda step: demands(step)[0])


def sort_out(most):
    """Cells to measure, and those left out, each with the reason."""
    room, wanted, skipped = SHARE_OF_MEMORY * memory(), [], []
    for step in cells():
        work, bytes = demands(step)
        if work > MOST_WORK:
            skipped.append((step, f"{work / 1e9:.0f} GFLOP a step, more than {MOST_WORK / 1e9:.0f}"))
        elif bytes > room:
            skipped.append((step, f"about {bytes / 1e9:.1f} GB, more than {SHARE_OF_MEMORY:.0%} of what is free"))
        elif most is not None and len(wanted) >= most:
            skipped.append((step, "more cells than asked for"))
        else:
            wanted.append(step)
    return wanted, skipped


def count(step):
    """Steps of a measurement: a second or so of the small ones, one of the large."""
    return max(1, min(20, round(100e9 / demands(step)[0])))


class Record:
    """Results by cell, and in a file where there is one: JSON lines, so that a sweep that was ended goes on."""

    def __init__(self, path):
        self.path, self.results = path and pathlib.Path(path), {}
        if self.path and self.path.exists():
            for number, line in enumerate(self.path.read_text().splitlines()):
                try:
                    result = json.loads(line)
                    self.results[steps.Step(**{key: result[key] for key in steps.Step._fields})] = result
                except (ValueError, KeyError, TypeError):
                    raise measure.Failed(
                        f"{self.path}, line {number + 1} is no result of a sweep: {line[:60]}") from None
            measure.say(f"{len(self.results)} cells stand in {self.path}")

    def put(self, step, result):
        self.results[step] = {**step._asdict(), **result}
        if self.path:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps(self.results[step]) + "\n")
            except OSError as error:
                raise measure.Failed(f"cannot write to {self.path}: {error.strerror}") from None


def compared(program, step, pairs, cpus):
    rounds = against(program, step, pairs, count(step), cpus)
    return {"views_per_second": measure.median(rounds, "apus"),
            "peer_views_per_second": measure.median(rounds, "PyTorch"),
            "peak_rss_mb": measure.median(rounds, "apus", "peak_rss_mb"),
            "peer_peak_rss_mb": measure.median(rounds, "PyTorch", "peak_rss_mb"),
            "ratio": ratio(rounds, "apus", "PyTorch"), "pairs": pairs}


def line(step, result):
    same = "not the same work" if result["wrong"] else "same loss" if result["shown"] else ""
    width = f"×{step.width:g}"
    return (f"| {step.arch} | {width} | {step.size} | {step.images} | {result['views_per_second']:.1f} | "
            f"{result['peer_views_per_second']:.1f} | {result['ratio']:.2f} | {result['pairs']} | {same} |")


def run(program, minutes, pairs, out, most):
    """Prints the sweep, a line a cell, and returns a summary."""
    cpus, begin = processors(1), time.monotonic()
    record, failed = Record(out), []
    wanted, skipped = sort_out(most)
    print("| encoder | width | px | images | apus views/s | PyTorch views/s | ratio | pairs | |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)

    def is_late(share):
        return time.monotonic() - begin > share * minutes * 60

    # Agreement does not depend on the batch, so an encoder at a size is checked with its smallest batch only.
    seen = {(s.arch, s.width, s.size) for s, r in record.results.items() if r["shown"]}
    for step in wanted:
        if step not in record.results:
            if is_late(FIRST_LOOK):
                skipped.append((step, f"no time was left of {minutes:g} minutes"))
                continue
            shape = (step.arch, step.width, step.size)
            try:
                shown, wrong = shape not in seen, []
                if shown:
                    *_, wrong = steps.differences(program, step, cpus)
                record.put(step, {**compared(program, step, 1, cpus), "shown": shown, "wrong": wrong})
            except measure.Failed as error:
                measure.say(f"{step}: {error}")
                failed.append(str(step))
                continue
            seen.add(shape)
        print(line(step, record.results[step]), flush=True)

    done = {step: record.results[step] for step in wanted if step in record.results}
    slowest = sorted(done, key=lambda step: done[step]["ratio"])[:SLOWEST]
    print(f"\nThe slowest {len(slowest)}, measured anew:\n", flush=True)
    for step in slowest:
        if done[step]["pairs"] < pairs and not is_late(1):
            try:
                record.put(step, {**done[step], **compared(program, step, pairs, cpus)})
            except measure.Failed as error:
                measure.say(f"{step}: {error}")
                failed.append(str(step))
            done[step] = record.results[step]
        print(line(step, done[step]), flush=True)
    if skipped:
        print(f"\nLeft out, {len(skipped)} of {len(cells())}:\n")
        for step, reason in skipped:
            print(f"- {step}: {reason}")
    wrong = {str(step): "; ".join(result["wrong"]) for step, result in done.items() if result["wrong"]}
    for name, words in wrong.items():
        print(f"\nNot the same work: {name}: {words}")
    worst = min(done, key=lambda step: done[step]["ratio"], default=None)
    if worst is not None:
        print(f"\nThe slowest ratio is {done[worst]['ratio']:.2f}: {worst}.")
    return {"cells": len(done), "skipped": len(skipped), "slowest": worst and {**done[worst]},
            "below_1": [str(step) for step, result in done.items() if result["ratio"] < 1], "not_same": wrong,
            "failed": failed + list(wrong), "minutes": round((time.monotonic() - begin) / 60, 1)}
