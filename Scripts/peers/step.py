"""One SimCLR step as both sides are asked for it."""
import pathlib
import sys
import tempfile
from typing import NamedTuple

import measure

FOLDER = pathlib.Path(__file__).parent
ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class Step(NamedTuple):
    """Work of one rank; two views of each image."""
    arch: str = "resnet18"
    size: int = 32
    images: int = 64
    width: float = 1.0
    threads: int = 1

    script = "torch_step.py"

    @property
    def own(self):
        """What apus bench is asked."""
        return ["step", *self.words]

    @property
    def words(self):
        return [word for name, value in self._asdict().items() for word in ("--" + name, f"{value}")]

    def __str__(self):
        width = "" if self.width == 1 else f" ×{self.width:g}"
        return f"{self.arch.replace('resnet', 'ResNet-')}{width}, {self.size} px, {self.images} images × 2 views"


def ours(program, step, *options):
    return [program, "bench", *step.own, "--json", *options]


def peers(step, *options, script=None):
    return [sys.executable, str(FOLDER / (script or step.script)), *step.words, *options]


def differences(program, step, cpus):
    """Loss and gradient norm of both sides from the same weights and views.

    Returns the two results, and what is further off PyTorch's fp64 than rounding explains, in words."""
    with tempfile.TemporaryDirectory() as folder:
        file = folder + "/exchange.safetensors"
        theirs = measure.last_line(peers(step, "--exchange", file), cpus)
        own = measure.last_line(ours(program, step, "--exchange", file), cpus)
    wrong = []
    for key, allowed in theirs["tolerance"].items():
        exact = theirs["reference"][key]
        difference = abs(own[key] - exact)
        measure.say(f"{step}: {key} {exact:.7g} in PyTorch's fp64; its fp32 is off by {abs(theirs[key] - exact):.1e}, "
                    f"apus by {difference:.1e}, allowed {allowed:.1e}")
        if not difference <= allowed:
            wrong.append(f"{key} is off by {difference:.1e}, rounding allows {allowed:.1e}")
    return own, theirs, wrong


def show_same(program, step, cpus):
    """Both results; refuses to go on where they are not of the same work."""
    own, theirs, wrong = differences(program, step, cpus)
    if wrong:
        raise measure.Failed(f"{step}: not the same work, so nothing was timed: {'; '.join(wrong)}")
    return own, theirs
