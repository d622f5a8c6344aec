"""Runs both sides of a comparison, in turn and on processors of their own.

Imports no PyTorch: a child's peak memory is never less than its parent's, and the parent must stay small.
"""
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

REPEATS = 5


class Failed(Exception):
    """A measurement that could not be made, in words."""


def say(text):
    """Progress; standard output is the table's."""
    print(text, file=sys.stderr, flush=True)


def has_bf16():
    """Whether the processor multiplies bf16; elsewhere PyTorch emulates it, at a hundredth of fp32's speed."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        words = file.read().split()
    return any(word in words for word in ("avx512_bf16", "amx_bf16", "bf16"))


def processors(count):
    """The last `count` of those that this process may use: the first serve interrupts."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < count:
        raise Failed(f"it needs {count} processors and may use {len(allowed)}: "
                     "give it more, with taskset or the scheduler")
    return allowed[-count:]


def start(command, cpus):
    """A program that may use these processors alone."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    except OSError as error:
        raise Failed(f"cannot start {command[0]}: {error.strerror}") from None


# Placeholder in a command for a pipe. Each rank that the command starts has its own.
TURN = "{turn}"


class Stepper:
    """Programs that take their steps together when it is their turn, and sleep in between.

    Each is a command and the processors that it may use; it waits for a byte of its pipes before each step, and prints
    a line after it."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.processes, self.pipes = folder, programs, [], []

    def __enter__(self):
        return self

    def start(self):
        for command, cpus in self.programs:
            self.processes.append(start([self.pipe() if word == TURN else word for word in command], cpus))

    def pipe(self):
        path = os.path.join(self.folder, f"turn-{len(self.pipes)}")
        os.mkfifo(path)
        self.pipes.append(os.open(path, os.O_RDWR))  # also for reading, so that opening does not wait for a reader
        return path

    def go(self):
        for pipe in self.pipes:
            os.write(pipe, b".")

    def step(self):
        """One step of each at the same time: the sum of their views a second, and what it would be if each waited for
        the slowest before its next."""
        self.go()
        lines = [process.stdout.readline() for process in self.processes]
        for process, line in zip(self.processes, lines):
            if not line:
                raise Failed(f"{' '.join(map(str, process.args))}: ended before its last step")
        speeds = [json.loads(line)["views_per_second"] for line in lines]
        return {"views_per_second": sum(speeds), "waiting_for_all": len(speeds) * min(speeds)}

    def result(self):
        """What the first says at the end."""
        self.go()
        return [finish(process) for process in self.processes][0]

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
        for pipe in self.pipes:
            os.close(pipe)


def finish(process):
    """The JSON object that a program prints last; its name is in what is said of a failure."""
    output, _ = process.communicate()
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not lines:
        found = "no JSON line" if not lines else "after " + lines[-1]
        raise Failed(f"{' '.join(map(str, process.args))}: status {process.returncode}, {found}")
    return json.loads(lines[-1])


def last_line(command, cpus):
    return finish(start(command, cpus))


def quiet(command, cpus):
    """Runs a program for what it does; what it prints is shown where it fails."""
    process = start(command, cpus)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: status {process.returncode}\n{output}")


def in_turn(what, count, key="views_per_second", **sides):
    """Runs every side once in each of `count` rounds, one after the other: A B A B.

    Returns a list of rounds, each a result by the side's name."""
    rounds = []
    for i in range(count):
        rounds.append({name: side() for name, side in sides.items()})
        figures = ", ".join(f"{name} {result[key]:.1f}" for name, result in rounds[-1].items())
        say(f"{what}, pair {i + 1} of {count}: {figures}")
    return rounds


def steps_in_turn(what, count, **sides):
    """One step of every side in each of `count` rounds, as `in_turn`, after one round of warm-up. A side is a list of
    programs for a Stepper.

    Returns the rounds, and what each side says at its end, by its name."""
    with contextlib.ExitStack() as stack:
        steppers = {}
        for name, programs in sides.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            steppers[name] = stack.enter_context(Stepper(folder, programs))
            steppers[name].start()
            steppers[name].step()
        rounds = in_turn(what, count, **{name: stepper.step for name, stepper in steppers.items()})
        return rounds, {name: stepper.result() for name, stepper in steppers.items()}


def median(rounds, side, key="views_per_second"):
    return statistics.median(r[side][key] for r in rounds)


def ratio(rounds, side, other, key="views_per_second"):
    """Median over the rounds of one side's figure by the other's in the same round: absolute times wander."""
    return round(statistics.median(r[side][key] / r[other][key] for r in rounds), 3)
