"""What is done with a pre-trained encoder, as both sides are asked for it: one view of each image."""
from typing import NamedTuple

from step import FOLDER

RECIPES = FOLDER.parent / "recipes"


class Transfer(NamedTuple):
    """Work of one rank: `finetune`, `frozen` (its encoder does not train), `distil` (from a ResNet-50) or `features`."""
    kind: str
    arch: str
    size: int
    images: int

    script = "torch_transfer.py"

    @property
    def words(self):
        return [self.kind, "--arch", self.arch, "--size", f"{self.size}", "--images", f"{self.images}"]

    @property
    def own(self):
        """What apus bench is asked."""
        sizes = ["--images", f"{self.images}", "--threads", "1"]
        if self.kind == "features":
            return ["features", "--arch", self.arch, "--size", f"{self.size}", *sizes]
        if self.kind == "distil":
            recipe, changes = str(RECIPES / "bench-distil.yaml"), []
        else:
            recipe, stem = "finetune", "small" if self.size <= 64 else "imagenet"
            changes = [f"encoder.name={self.arch}", f"encoder.stem={stem}", f"views.0.size={self.size}"]
            if self.kind == "frozen":
                changes.append("parameters=[{part: encoder, trains: false}]")
        return ["step", "--recipe", recipe, *sizes, *(word for change in changes for word in ("--set", change))]

    def __str__(self):
        whats = {"finetune": "fine-tuning step, ", "frozen": "fine-tuning step with a frozen encoder, ",
                 "distil": "distillation step, ResNet-50 teacher, ", "features": "features, "}
        return f"{whats[self.kind]}{self.arch.replace('resnet', 'ResNet-')}, {self.size} px, {self.images} images"
