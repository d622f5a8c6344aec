"""Ways to get negatives against their number, and the momentum of the key encoder. Called by Scripts/mechanisms."""
import argparse
import json
import os
import re
import sys

import sweep
from sweep import Failed, fingerprint, percent, say

# MoCo v1's recipe for graytiles gives the common pretext task, loss, temperature, head and budget. Each mechanism has
# its own learning rate.
BASE = "moco-v1-graytiles"
SAME = ("encoder", "schedule", "batch")
BATCH = "batch"
QUEUE, LEARNED = "queue (MoCo)", "learned (AdCo)"
# As published for AdCo.
BANK_RATE, BANK_SIZE = 3, 65536
# For each mechanism its recipe, and the option that sets K.
MECHANISMS = {
    "end-to-end": ("end-to-end-graytiles", BATCH),
    "memory bank": ("memory-bank-graytiles", "method.negatives"),
    QUEUE: (BASE, "method.queue"),
    LEARNED: ("adco-graytiles", "method.negatives"),
}
NEGATIVES, MOMENTA = [64, 256, 1024, 4096], [0.0, 0.9, 0.99, 0.999]
# With a larger batch the budget has too few steps; end-to-end cannot afford it.
LARGEST_BATCH = 1024
# Length of the queue in the comparison of momenta, and momentum in the comparison of K.
LENGTH, MOMENTUM = 1024, 0.99
# Set in each method that has the option, so that all use cross-entropy over the positive and K negatives.
COMMON = {"loss": "softmax", "symmetric": "false", "inBatch": "false"}


def field(resolved, name):
    """A top-level field of a resolved recipe, as it is written."""
    found = re.search(rf"^{name}:(.*(?:\n[- ].*)*)", resolved, re.MULTILINE)
    if not found:
        raise Failed(f"the resolved recipe has no `{name}`:\n{resolved}")
    value = found.group(1).strip()
    if value.startswith("- "):  # join a list of one entry per line into one line
        value = "[" + ", ".join(line.strip()[2:] for line in value.split("\n")) + "]"
    return value


def overrides(apus, recipe):
    """Fields of the base recipe in place of a recipe's own, where the two differ in what must be the same."""
    base, own = apus.resolved(BASE), apus.resolved(recipe)
    if recipe == BASE:
        return {}
    sets = {name: field(base, name) for name in SAME}
    # The views are the base recipe's, but the count is its own: a memory bank has one view per image.
    count = re.search(r"\bcount: (\d+)", field(own, "views")).group(1)
    sets["views"] = re.sub(r"\bcount: \d+", f"count: {count}", field(base, "views"))
    # A method that refuses shuffled groups gets fixed groups of the same size.
    if "shuffle" not in field(own, "batchNorm"):
        sets["batchNorm"] = field(base, "batchNorm").replace("shuffle", "group")
    method, model = field(own, "method"), field(base, "method")
    sets["method.temperature"] = re.search(r"\btemperature: ([^,}]+)", model).group(1)
    sets["method.head"] = re.search(r"\bhead: (\[[^]]*\])", model).group(1)
    for name, value in COMMON.items():
        if re.search(rf"\b{name}: ", method):
            sets[f"method.{name}"] = value
    return sets


def job(apus, keys, recipe, sets, seed, budget):
    """A job of sweep.sweep. Of each image the encoder that is evaluated computes one view with its gradient."""
    resolved = apus.resolved(recipe)
    batch = int(sets.get(BATCH, sweep.batch_of(resolved)))
    sets = {**sets, "seed": seed, "length": f"{max(1, round(budget / batch))} steps", "monitor.every": "0 steps"}
    mark = fingerprint(resolved, json.dumps(sets, sort_keys=True))
    name = "-".join(str(value) for value in keys.values()).replace(" ", "-")
    keys = {**keys, "seed": seed, "budget": budget, "recipe": mark}

    def call():
        run, seconds = apus.train(f"{name}-seed{seed}-{mark}", recipe, sets)
        return {**apus.evaluate(run)["learned"], **seconds, "ranks": apus.ranks}, run
    return keys, f"{', '.join(f'{k} {v}' for k, v in keys.items() if k not in ('recipe', 'budget'))}", call


def jobs(apus, options):
    """All runs, and the mechanisms that this program lacks."""
    there, all_jobs = apus.recipes(), []
    missing = [mechanism for mechanism, (recipe, _) in MECHANISMS.items() if recipe not in there]
    for seed in options.seeds:
        for mechanism, (recipe, option) in MECHANISMS.items():
            if mechanism in missing:
                continue
            sets = overrides(apus, recipe)
            for k in options.negatives:
                if mechanism == QUEUE or option == BATCH and k > LARGEST_BATCH:
                    continue
                own = {option: k}
                if mechanism == LEARNED:  # a row's gradient is proportional to its probability, about 1/K
                    own["method.bankRate"] = BANK_RATE * k / BANK_SIZE
                keys = {"mechanism": mechanism, "k": k}
                all_jobs.append(job(apus, keys, recipe, {**sets, **own}, seed, options.budget))
        # The momentum table and the queue's curve share a run.
        queues = [(k, MOMENTUM) for k in options.negatives] + [(LENGTH, m) for m in options.momenta]
        for k, m in dict.fromkeys(queues):
            keys = {"mechanism": QUEUE, "k": k, "momentum": m}
            sets = {"method.queue": k, "method.momentum": m}
            all_jobs.append(job(apus, keys, BASE, sets, seed, options.budget))
    return all_jobs, missing


def points(all_jobs, results, options):
    """What apus figure draws."""
    for keys, _, _ in all_jobs:
        line = results.find(**keys)
        if not line:
            continue
        k, m = keys["k"], keys.get("momentum", MOMENTUM)
        for key, name in (("linear", "Linear probe"), ("knn", "kNN, k = 20")):
            same = {"unit": "%", "y": percent(line[key]), "scale": "log", "seed": keys["seed"],
                    "curve": keys["mechanism"]}
            if m == MOMENTUM and k in options.negatives:
                yield {"figure": f"{name} against the number of negatives", "x": k, "axis": "negatives K", **same}
            if keys["mechanism"] == QUEUE and k == LENGTH and m in options.momenta:
                yield {"figure": f"{name} against the momentum m of the key encoder, K = {LENGTH}",
                       "x": round(1 / (1 - m), 6), "axis": "1 / (1 − m)", **same}


def tables(all_jobs, missing, results, options):
    """Markdown: linear probe, mean ± deviation over seeds, kNN below it."""
    def cell(**wanted):
        found = [line for keys, _, _ in all_jobs if all(keys.get(k) == v for k, v in wanted.items())
                 for line in [results.find(**keys)] if line]
        return " / ".join(sweep.mean([percent(line[key]) for line in found]) for key in ("linear", "knn") if found)

    text = ["| linear probe / kNN in %, negatives K | " + " | ".join(map(str, options.negatives)) + " |",
            "|---|" + "---|" * len(options.negatives)]
    for mechanism in MECHANISMS:
        if mechanism not in missing:
            kept = {"momentum": MOMENTUM} if mechanism == QUEUE else {}
            cells = [cell(mechanism=mechanism, k=k, **kept) for k in options.negatives]
            text.append(f"| {mechanism} | " + " | ".join(cells) + " |")
    text += ["", f"| momentum, K = {LENGTH} | " + " | ".join(f"{m:g}" for m in options.momenta) + " |",
             "|---|" + "---|" * len(options.momenta),
             f"| {QUEUE} | " + " | ".join(cell(momentum=m, k=LENGTH) for m in options.momenta) + " |"]
    return "\n".join(text)


def number_list(kind, fits):
    def parse(text):
        values = [kind(part) for part in text.split(",")]
        if not values or not all(map(fits, values)) or len(set(values)) != len(values):
            raise ValueError(text)
        return values
    parse.__name__ = "list"
    return parse


def main():
    parser = argparse.ArgumentParser(prog="Scripts/mechanisms", description=__doc__)
    sweep.arguments(parser, "Scripts/results/mechanisms.jsonl", [1], 100_000, "runs/mechanisms", "images in each run")
    parser.add_argument("--negatives", type=number_list(int, lambda k: 2 <= k <= 65536), default=NEGATIVES,
                        help=f"numbers of negatives (default: {','.join(map(str, NEGATIVES))})")
    parser.add_argument("--momenta", type=number_list(float, lambda m: 0 <= m < 1), default=MOMENTA,
                        help=f"of the key encoder (default: {','.join(f'{m:g}' for m in MOMENTA)})")
    parser.add_argument("--page", help="the page with the figure (default: figure.html in --work)")
    options = parser.parse_args()
    sweep.check_data(options.data)
    results = sweep.Results(options.out)
    apus = sweep.Apus(options.program, options.data, options.ranks, options.work)
    all_jobs, missing = jobs(apus, options)
    if missing:
        say(f"no recipe yet for {', '.join(missing)}")
    if options.plan:
        sweep.tell_plan(all_jobs, results)
        return
    failures = sweep.sweep(all_jobs, results, options.ranks)
    drawn = list(points(all_jobs, results, options))
    if drawn:
        page = options.page or os.path.join(options.work, "figure.html")
        os.makedirs(options.work, exist_ok=True)
        file = os.path.join(options.work, "points.jsonl")
        with open(file, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(point) + "\n" for point in drawn)
        say(apus.words("figure", file, page, "--title", "Where negatives come from", "--summary",
                       f"The same encoder, views, loss and {options.budget:,} images in every run.").strip())
        print(tables(all_jobs, missing, results, options))
    if failures:
        sys.exit(f"{failures} runs failed; the same command tries them again")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
