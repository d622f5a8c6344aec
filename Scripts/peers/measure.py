"""Runs both sides of a comparison, in turn and on processors of their own.

Imports no PyTorch: a child's peak memory is never less than its parent's, and the parent must stay small.
"""
import json
import os
import statistics
import subprocess
import sys

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


def together(commands, cpus):
    """As many programs at the same time as there are commands, one on each processor."""
    running = []
    try:
        for command, cpu in zip(commands, cpus, strict=True):
            running.append(start(command, [cpu]))
        return [finish(process) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


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


def median(rounds, side, key="views_per_second"):
    return statistics.median(r[side][key] for r in rounds)


def ratio(rounds, side, other, key="views_per_second"):
    """Median over the rounds of one side's figure by the other's in the same round: absolute times wander."""
    return round(statistics.median(r[side][key] / r[other][key] for r in rounds), 3)
