"""SimCLR v2's chain with few labels: pre-train, fine-tune from each layer of the head, distil. Called by
Scripts/semi-supervised."""
import argparse
import json
import os
import sys

import sweep
from sweep import Failed, fingerprint, percent, say

# The sets, each with the recipe that pre-trains on it, in the shape of SimCLR v2: a head of three layers.
SETS = {
    "graytiles": ("simclr-v2-graytiles", {}),
    "Fashion-MNIST": ("simclr-v1-fashion", {"method.head": "[features, features, 64]"}),
}
SHARES = ["1%", "10%"]
# Both are of one recipe each, the same for every set, share and seed.
FINETUNE = {"length": 400, "optimizer.rate": 0.4, "monitor.every": "0 steps"}
DISTIL = {"length": 200, "optimizer.rate": 0.4, "optimizer.decay": 5e-4, "monitor.every": "0 steps"}
PROBE = {"optimizer.rate": 3, "parameters": "[{part: encoder, trains: false}]"}
SCRATCH = {"start.from": "nothing"}
# What the pre-trained weights of the head's layer are worth.
FRESH = {"start.carry": "[encoder]"}
# Rows of the table: how the run is made, and the row that it learns from.
LABELS_ALONE, LAYER = "labels alone, from scratch", "fine-tuned from layer {}"
TEACHER = LAYER.format(1)
ROWS = {
    LABELS_ALONE: ("finetune", ["--layers", "0"], SCRATCH),
    "linear probe": ("finetune", ["--layers", "0"], PROBE),
    **{LAYER.format(layer): ("finetune", ["--layers", str(layer)], {}) for layer in range(3)},
    "from layer 1, whose weights are fresh": ("finetune", ["--layers", "1"], FRESH),
    "distilled to itself": ("distil", [], {}),
    "distilled to half the width": ("distil", ["--width", "0.125"], {}),
    "distilled to itself, four times as long": ("distil", [], {"length": 800}),
}
# Rows that explain another one are not of every set and share.
COLUMNS = {"distilled to itself, four times as long": [("Fashion-MNIST", "10%")]}
PRETRAINED = "pre-trained"


def words(sets):
    return [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


def run(apus, run_folder, command, *arguments):
    """Trains to the end, from where an earlier sweep was stopped."""
    apus.run(f"{run_folder}.log", command, *arguments, "--run", run_folder, "--threads", "1")
    if not os.path.exists(os.path.join(run_folder, "complete")):
        raise Failed(f"{run_folder} was stopped before its end; the same command goes on with it")


def accuracy(run_folder):
    """Right answers of the run's own classifier on all held-out images: [503, 1109]."""
    with open(os.path.join(run_folder, "classifiers.json"), encoding="utf-8") as file:
        score = json.load(file)[-1]["accuracy"]
    return [score["hits"], score["trials"]]


class Sweep:
    def __init__(self, apus, options):
        self.apus, self.options = apus, options
        self.data = {"graytiles": options.data, "Fashion-MNIST": options.fashion}

    def folder(self, *parts):
        return os.path.join(self.options.work, "-".join(str(part).replace(" ", "-") for part in parts))

    def pretrain_sets(self, name, seed):
        return {**SETS[name][1], "seed": seed, "length": f"{self.options.budget} images", "monitor.every": "0 steps"}

    def pretraining(self, name, seed):
        """A job of sweep.sweep whose run stays, because others start from it."""
        recipe, sets = SETS[name][0], self.pretrain_sets(name, seed)
        mark = fingerprint(self.apus.resolved(recipe), json.dumps(sets, sort_keys=True))
        folder = self.folder(PRETRAINED, name, seed, mark)

        def call():
            run(self.apus, folder, "pretrain", recipe, "--data", self.data[name], *words(sets))
            return {"run": os.path.basename(folder)}, None
        keys = {"set": name, "row": PRETRAINED, "seed": seed, "recipe": mark}
        return keys, f"{name}, {PRETRAINED}, seed {seed}", call

    def row(self, name, share, row, seed, mark):
        command, arguments, sets = ROWS[row]
        sets = {**(FINETUNE if command == "finetune" else DISTIL), **sets, "seed": seed}
        sets["length"] = sweep.steps(sets["length"], self.options.shorter)
        mark = fingerprint(mark, self.apus.resolved(command), json.dumps([command, arguments, sets], sort_keys=True))
        folder = self.folder(name, share, row, seed, mark)
        source = self.folder(PRETRAINED, name, seed, self.marks[name, seed])
        if command == "distil":
            source = self.folders[name, share, TEACHER, seed]
            arguments = [*arguments, "--encoder", "resnet18"]
        else:
            arguments = [*arguments, "--labels", share]
        self.folders[name, share, row, seed] = folder

        def call():
            run(self.apus, folder, command, source, "--data", self.data[name], *arguments, *words(sets))
            return {"right": accuracy(folder)}, None
        keys = {"set": name, "labels": share, "row": row, "seed": seed, "recipe": mark}
        return keys, f"{name}, {share} of the labels, {row}, seed {seed}", call

    def waves(self):
        """Jobs, in the order in which they start from one another."""
        cases = [(name, seed) for seed in self.options.seeds for name in self.options.sets]
        first = [self.pretraining(name, seed) for name, seed in cases]
        self.marks = {case: keys["recipe"] for case, (keys, _, _) in zip(cases, first)}
        self.folders = {}
        second, third = [], []
        for name, seed in cases:
            for share in SHARES:
                for row, (command, _, _) in ROWS.items():
                    if (name, share) not in COLUMNS.get(row, [(name, share)]):
                        continue
                    job = self.row(name, share, row, seed, self.marks[name, seed])
                    (second if command == "finetune" else third).append(job)
        return [first, second, third]


def table(jobs, results, options):
    """Markdown: a row a way to train, a column a set and share of labels."""
    columns = [(name, share) for name in options.sets for share in SHARES]
    text = ["| top-1 in %, mean ± deviation | " + " | ".join(f"{name}, {share}" for name, share in columns) + " |",
            "|---|" + "---|" * len(columns)]
    for row in ROWS:
        cells = []
        for name, share in columns:
            lines = [results.find(**keys) for keys, _, _ in jobs
                     if (keys["set"], keys.get("labels"), keys["row"]) == (name, share, row)]
            cells.append(sweep.mean([percent(line["right"]) for line in lines if line]))
        text.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(prog="Scripts/semi-supervised", description=__doc__)
    sweep.arguments(parser, "Scripts/results/semi-supervised.jsonl", [1, 2, 3], 50_000, "runs/semi-supervised",
                    "images that are pre-trained on")
    sweep.shorter_argument(parser)
    fashion = os.path.normpath(os.path.join(sweep.ROOT, "data/fashion"))
    parser.add_argument("--fashion", default=fashion, help=f"packed Fashion-MNIST (default: {fashion})")
    parser.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS),
                        help=f"some of {','.join(SETS)}")
    options = parser.parse_args()
    for name in options.sets:
        if name not in SETS:
            sys.exit(f"there is no set {name}; there are {', '.join(SETS)}")
    sweep.check_data(options.data)
    if "Fashion-MNIST" in options.sets:
        sweep.check_data(options.fashion)
    results = sweep.Results(options.out)
    waves = Sweep(sweep.Apus(options.program, options.data, options.ranks, options.work), options).waves()
    jobs = [job for wave in waves for job in wave]
    if options.plan:
        sweep.tell_plan(jobs, results)
        return
    failures = 0
    for wave in waves:
        failures += sweep.sweep(wave, results, options.ranks)
        if failures:
            break
    print(table(jobs, results, options))
    if failures:
        sys.exit(f"{failures} runs failed; the same command tries them again")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
