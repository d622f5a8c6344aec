"""Many runs of apus, several at once, each result a line of a committed file: what the sweeps share."""
import argparse
import concurrent.futures
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.relpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
# Methods in which one view is a key without gradient, unless the loss is symmetric.
WITH_KEYS = ("moco", "adco")
# Processors for the runs that this thread starts, in taskset's format; unset if they may use all.
OWN = threading.local()
PROTOCOLS = {"linear-v1": "linear", "knn-v1, k = 20": "knn", "knn-v1, k = 200": "knn200"}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Failed(Exception):
    """A run that did not end well; the sweep goes on with the next."""


class Results:
    """A file of JSON lines that only grows; a torn last line, left by a sweep that was killed, is passed over."""

    def __init__(self, path):
        self.path, self.lines, self.lock = path, [], threading.Lock()
        if not os.path.exists(path):
            return
        with open(path, encoding="utf-8") as file:
            texts = file.read().split("\n")
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                if number < len(texts):
                    sys.exit(f"line {number} of {path} is no JSON; repair the file, or give another with --out")
        # Remove a torn line, so that the next line does not continue it.
        if texts and texts[-1]:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, sort_keys=True) + "\n" for line in self.lines)

    def find(self, **keys):
        """The latest line with these values."""
        return next((line for line in reversed(self.lines) if all(line.get(k) == v for k, v in keys.items())), None)

    def add(self, line):
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        with self.lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
            self.lines.append(line)


class Apus:
    """The program, on so many ranks."""

    def __init__(self, program, data, ranks, work):
        self.program, self.data, self.ranks, self.work = program, data, ranks, work
        self.launcher = os.environ.get("MPIRUN", "mpirun")

    def words(self, *arguments):
        """What the program prints, on one rank, within moments."""
        done = subprocess.run([self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"apus {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def recipes(self):
        return [line.split()[0] for line in self.words("recipes").splitlines() if line.strip()]

    def resolved(self, recipe):
        return self.words("recipes", "show", recipe, "--resolved")

    def run(self, log, *arguments):
        """On all ranks; what is printed goes to a file and comes back."""
        command = [self.program, *arguments]
        if self.ranks > 1:
            command = [self.launcher, "-n", str(self.ranks), *command]
        command = pinned(command)
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, "w", encoding="utf-8") as file:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT).returncode
        with open(log, encoding="utf-8", errors="replace") as file:
            text = file.read()
        if status != 0:
            last = "\n".join(text.strip().splitlines()[-6:])
            raise Failed(f"{' '.join(command)}\nended with status {status}; {log} ends with\n{last}")
        return text

    def train(self, name, recipe, sets):
        """Trains to the end, from where an earlier sweep was stopped. The run's folder, and {"seconds": …} where it was
        trained in one go."""
        run = os.path.join(self.work, name)
        begin, is_new = time.monotonic(), not os.path.exists(run)
        options = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        self.run(f"{run}.log", "pretrain", recipe, "--data", self.data, "--run", run, *options)
        if not os.path.exists(os.path.join(run, "complete")):
            raise Failed(f"{run} was stopped before its end; the same command goes on with it")
        return run, {"seconds": round(time.monotonic() - begin, 1)} if is_new else {}

    def evaluate(self, path, *options, baselines=False):
        """Right answers by features and protocol: {"learned": {"linear": [503, 1109], …}}."""
        if not baselines:
            options = (*options, "--only")
        text = self.run(f"{path}.eval.log", "evaluate", path, "--data", self.data, *options)
        found = {}
        for protocol, features, correct, count in re.findall(
                r"^(linear-v1|knn-v1, k = \d+) +(.+?) +[\d.]+ % .*? (\d+)/(\d+) ", text, re.MULTILINE):
            if protocol in PROTOCOLS:
                found.setdefault(features, {})[PROTOCOLS[protocol]] = [int(correct), int(count)]
        if not found.get("learned", {}).keys() >= {"linear", "knn"}:
            raise Failed(f"no results in the output of apus evaluate; see {path}.eval.log")
        return found


def gradient_views(resolved):
    """Views of an image whose gradient a step of this recipe computes, in views of the first kind's size: a smaller
    crop counts by its pixels. A momentum encoder's or target's passes are not counted."""
    method = re.search(r"^method: \{.*?\bname: ([\w-]+)", resolved, re.MULTILINE)
    kinds = [(int(count), int(size)) for count, size in re.findall(r"\bcount: (\d+), size: (\d+)", resolved)]
    if not method or not kinds:
        raise Failed("cannot read method and views out of the resolved recipe:\n" + resolved)
    views = sum(count * (size / kinds[0][1]) ** 2 for count, size in kinds)
    if method.group(1) in WITH_KEYS and not re.search(r"\bsymmetric: true", resolved):
        views -= 1
    return views


def batch_of(resolved):
    return int(re.search(r"^batch: (\d+)", resolved, re.MULTILINE).group(1))


def fingerprint(*parts):
    """Tells apart what a result depends on."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:12]


def machine():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = re.findall(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    except OSError:
        names = []
    return names[0].strip() if names else platform.machine()


def percent(pair):
    return 100 * pair[0] / pair[1]


def mean(values):
    """Mean ± deviation of the sample, as tables print them."""
    if not values:
        return ""
    return f"{statistics.fmean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def positive(text):
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def seeds(text):
    """`1,2,3`, for argparse."""
    values = [int(part) for part in text.split(",")]
    if not values or len(set(values)) != len(values) or min(values) < 0:
        raise ValueError(text)
    return values


def arguments(parser, out, seed_list, budget, work, unit="views whose gradient is computed, in each run"):
    """The options that all sweeps have; `out` and `work` are the project's. A sweep without a budget has no option."""
    out, work, data = (os.path.normpath(os.path.join(ROOT, path)) for path in (out, work, "data/graytiles"))
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--data", default=data, help=f"packed data with train and test (default: {data})")
    parser.add_argument("--out", default=out, help=f"file of results (default: {out})")
    parser.add_argument("--seeds", type=seeds, default=seed_list, help=f"default: {','.join(map(str, seed_list))}")
    if budget:
        parser.add_argument("--budget", type=positive, default=budget, help=f"{unit} (default: {budget})")
    parser.add_argument("--ranks", type=positive, default=1,
                        help="of each run; as many runs at once as there are processors for them (default: 1)")
    parser.add_argument("--work", default=work, help=f"where runs are kept (default: {work})")
    parser.add_argument("--plan", action="store_true", help="only say what is done and what is to do")


def shorter_argument(parser):
    """The option of sweeps whose lengths are fixed."""
    parser.add_argument("--shorter", type=positive, default=1, metavar="N",
                        help="every training has 1/N of its steps, to try the sweep (default: 1)")


def steps(count, shorter):
    """A length as recipes have it."""
    return f"{max(1, count // shorter)} steps"


def tell_plan(jobs, results):
    """Prints which jobs are done."""
    for keys, name, _ in jobs:
        print(("done   " if results.find(**keys) else "to do  ") + name)


def check_data(data):
    for part in ("train", "test"):
        folder = os.path.join(data, part)
        if not os.path.isdir(folder):
            sys.exit(f"{folder} is not there: Scripts/graytiles makes data/graytiles, or name packed data with --data")


def pinned(command):
    """The command on this thread's own processors."""
    return ["taskset", "-c", OWN.processors, *command] if hasattr(OWN, "processors") else command


def forget(run):
    """A finished run's checkpoints are not needed any more."""
    shutil.rmtree(os.path.join(run, "checkpoints"), ignore_errors=True)


def sweep(jobs, results, ranks):
    """Runs what has no result yet, as many at once as there are processors for their ranks: the numbers are the same on
    any number of ranks, and runs by themselves do not wait for one another. A job is (its keys, its name, a call that
    gives the rest of its line and the run's folder, None where its checkpoints are to stay). Returns how many
    failed."""
    todo = [job for job in jobs if results.find(**job[0]) is None]
    say(f"{len(jobs) - len(todo)} of {len(jobs)} runs are done")
    processors = sorted(os.sched_getaffinity(0))
    at_once = max(1, len(processors) // ranks)
    shares = [processors[i * ranks:(i + 1) * ranks] for i in range(at_once)]
    begin, ended = time.monotonic(), []

    def take_processors():
        if at_once > 1:
            OWN.processors = ",".join(map(str, shares.pop()))

    def do(job):
        keys, name, call = job
        say(f"begins: {name}")
        try:
            found, run = call()
            results.add({**keys, **found, "machine": machine()})
            if run:
                forget(run)  # only after the result is stored: it cannot be evaluated again
            words, failed = f"done: {name}", False
        except Failed as error:
            words, failed = f"FAILED: {name}\n{error}", True
        ended.append(name)
        left = (time.monotonic() - begin) / len(ended) * (len(todo) - len(ended))
        say(f"{words} ({len(ended)} of {len(todo)}, about {left / 60:.0f} min left)")
        return failed

    with concurrent.futures.ThreadPoolExecutor(at_once, initializer=take_processors) as pool:
        return sum(pool.map(do, todo))
