"""What every method's small recipe learns from the same budget of views. Called by Scripts/learning-table."""
import argparse
import json
import os
import subprocess
import sys

import sweep
from sweep import Failed, fingerprint, percent, say

METHODS = ("moco-v1", "moco-v2", "end-to-end", "memory-bank", "simclr-v1", "simclr-v2", "byol", "adco", "swav")
SUFFIX = "-graytiles"
RANDOM, PIXELS, SUPERVISED = "random weights", "raw pixels", "supervised"
# Recipe that gives the encoder of the reference rows.
REFERENCE = "simclr-v1" + SUFFIX
FOLDER = os.path.dirname(os.path.abspath(__file__))


def trained(apus, method, seed, budget):
    """A job of sweep.sweep: a method's recipe, trained and evaluated."""
    recipe = method + SUFFIX
    resolved = apus.resolved(recipe)
    views, batch = sweep.gradient_views(resolved), sweep.batch_of(resolved)
    steps = max(1, round(budget / views / batch))
    keys = {"row": method, "seed": seed, "budget": budget, "recipe": fingerprint(resolved)}
    name = f"{method}-{budget}-seed{seed}-{keys['recipe']}"

    def call():
        run, seconds = apus.train(name, recipe, {"seed": seed, "length": f"{steps} steps", "monitor.every": "0 steps"})
        found = apus.evaluate(run)["learned"]
        return {**found, **seconds, "views": round(steps * batch * views), "steps": steps, "ranks": apus.ranks}, run
    return keys, f"{method}, seed {seed}: {steps} steps of {batch} × {views:g} views", call


def untrained(apus, seed):
    """The same encoder with its initial weights, and the pixels themselves."""
    resolved = apus.resolved(REFERENCE)
    keys = {"row": RANDOM, "seed": seed, "recipe": fingerprint(resolved)}

    def call():
        sets = {"seed": seed, "length": "1 steps", "schedule.warmup": "0 steps", "monitor.every": "0 steps"}
        run, _ = apus.train(f"random-seed{seed}-{keys['recipe']}", REFERENCE, sets)
        found = apus.evaluate(run, baselines=True)
        return {**found[RANDOM], "pixels": found[PIXELS]}, run
    return keys, f"{RANDOM}, seed {seed}", call


def supervised(apus, seed, budget):
    """The same encoder trained with labels, judged in the same way."""
    keys = {"row": SUPERVISED, "seed": seed, "budget": budget, "recipe": fingerprint(apus.resolved(REFERENCE))}

    def call():
        os.makedirs(apus.work, exist_ok=True)
        out = os.path.join(apus.work, f"supervised-{budget}-seed{seed}.safetensors")
        command = [sys.executable, os.path.join(FOLDER, "supervised.py"), apus.data, out, "--seed", str(seed),
                   "--views", str(budget), "--threads", str(apus.ranks)]
        done = subprocess.run(sweep.pinned(command), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}\n{done.stderr.strip()[-1500:]}")
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return {**apus.evaluate(out, "--recipe", REFERENCE)["learned"], **told}, out
    return keys, f"{SUPERVISED} (PyTorch), seed {seed}", call


def table(jobs, missing, results):
    """Markdown: kNN and linear probe, mean ± deviation over seeds."""
    lines = {}
    for keys, _, _ in jobs:
        line = results.find(**keys)
        if line:
            lines.setdefault(keys["row"], []).append(line)
    if not lines:
        return "no results yet"
    count = next(iter(lines.values()))[0]["linear"][1]
    title = f"top-1 in % of {count:,} test images, mean ± deviation"
    text = [f"| {title} | kNN, k = 20 | linear probe | seeds | minutes | |", "|---|---|---|---|---|---|"]

    def row(name, found, note=""):
        knn, linear = (sweep.mean([percent(line[key]) for line in found]) for key in ("knn", "linear"))
        seconds = [line["seconds"] for line in found if "seconds" in line]
        minutes = f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else ""
        text.append(f"| {name} | {knn} | {linear} | {len(found)} | {minutes} | {note} |")

    if RANDOM in lines:
        row(PIXELS, [line["pixels"] for line in lines[RANDOM][:1]])
    for name in (RANDOM, *METHODS):
        if name in lines:
            row(name, lines[name])
    if SUPERVISED in lines:
        own = sweep.mean([percent(line["classifier"]) for line in lines[SUPERVISED]])
        row(SUPERVISED, lines[SUPERVISED], f"its own classifier: {own}")
    for name in missing:
        text.append(f"| {name} | | | 0 | | no recipe {name}{SUFFIX} in this program |")
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(prog="Scripts/learning-table", description=__doc__)
    rows = (*METHODS, "random", SUPERVISED)
    sweep.arguments(parser, "Scripts/results/learning-table.jsonl", [1, 2, 3], 100_000, "runs/learning-table")
    parser.add_argument("--only", help=f"some rows, separated by commas: {', '.join(rows)}")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else rows
    for name in only:
        if name not in rows:
            parser.error(f"--only names `{name}`; rows are {', '.join(rows)}")
    sweep.check_data(options.data)
    results = sweep.Results(options.out)
    apus = sweep.Apus(options.program, options.data, options.ranks, options.work)
    there = apus.recipes()
    missing = [m for m in METHODS if m in only and m + SUFFIX not in there]
    jobs = []
    # Seed by seed, so that an interrupted sweep still gives a whole table.
    for seed in options.seeds:
        if "random" in only:
            jobs.append(untrained(apus, seed))
        for method in METHODS:
            if method in only and method not in missing:
                jobs.append(trained(apus, method, seed, options.budget))
        if SUPERVISED in only:
            jobs.append(supervised(apus, seed, options.budget))
    if missing:
        say(f"no recipe yet for {', '.join(missing)}")
    if options.plan:
        sweep.tell_plan(jobs, results)
        return
    failures = sweep.sweep(jobs, results, options.ranks)
    print(table(jobs, missing, results))
    if failures:
        sys.exit(f"{failures} runs failed; the same command tries them again")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
