"""PyTorch's side of Scripts/bench-peer for what is done with a pre-trained encoder, as it is fastest on processors.

    torch_transfer.py KIND [OPTIONS]                  times steps, prints one JSON line
    torch_transfer.py KIND [OPTIONS] --exchange FILE  writes weights, images and labels, prints what both must find, the
                                                      same in fp64, and how far off it rounding may be
KIND is finetune, frozen (the encoder does not train), distil (from a ResNet-50) or features.
"""
import copy
import json
import math
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import encoders
import torch_step

CLASSES = 10
# Batches before running statistics are those of the images: without, fifty layers would let random features explode.
SETTLING = 3


class Classified(torch.nn.Module):
    """An encoder and a linear classifier."""

    def __init__(self, arch, size):
        super().__init__()
        self.encoder = encoders.ResNet(arch, stem="small" if size <= 64 else "imagenet")
        self.classifier = torch.nn.Linear(self.encoder.features, CLASSES)

    def forward(self, x):
        return self.classifier(self.encoder(x))

    def exchanged(self, prefix=""):
        """State by the names that apus has."""
        return {prefix + name: tensor.contiguous() for name, tensor in self.state_dict().items()
                if not name.endswith("num_batches_tracked")}


def frozen(module, images):
    """The module for inference: normalisation folded into the convolutions, and whatever else PyTorch's compiler for
    frozen modules does."""
    return torch.jit.freeze(torch.jit.trace(copy.deepcopy(module).eval(), images))


def settle(module, images):
    """Moves running statistics to those of the images."""
    module.train()
    with torch.no_grad():
        for _ in range(SETTLING):
            for layer in module.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = None  # the mean over all batches
            module(images)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.1


class Work:
    """Networks, images and labels of a kind of work."""

    def __init__(self, a):
        torch.set_num_threads(a.threads)
        torch.manual_seed(1)
        self.kind = a.kind
        layout = {"memory_format": torch.channels_last}
        self.images = torch_step.images_twice(a.images, a.size)[:a.images].to(**layout)
        self.labels = torch.randint(CLASSES, (a.images,))
        self.model = Classified(a.arch, a.size).to(**layout)
        self.teacher = Classified("resnet50", a.size).to(**layout) if a.kind == "distil" else None
        settle(self.model, self.images)
        self.model.train()
        if self.kind in ("frozen", "features"):
            self.model.encoder.eval().requires_grad_(False)
        if self.teacher:
            settle(self.teacher, self.images)
            self.teacher.eval().requires_grad_(False)
        self.ask = self.teacher

    def prepare(self):
        """Compiles what is frozen."""
        if self.teacher:
            self.ask = frozen(self.teacher, self.images)
        if self.kind == "features":
            self.infer = frozen(self.model.encoder, self.images)

    def double(self):
        """The same in fp64."""
        other = copy.copy(self)
        other.model, other.images = copy.deepcopy(self.model).double(), self.images.double()
        other.teacher = other.ask = copy.deepcopy(self.teacher).double() if self.teacher else None
        return other

    def loss(self):
        scores = self.model(self.images)
        if self.kind != "distil":
            return F.cross_entropy(scores, self.labels)
        with torch.inference_mode():
            wanted = self.ask(self.images).softmax(1)
        return -(wanted.clone() * scores.log_softmax(1)).sum(1).mean()

    def measure(self):
        """Loss and gradient norm of one step, or the features."""
        if self.kind == "features":
            with torch.inference_mode():
                return self.model.encoder(self.images).double()
        self.model.zero_grad()
        loss = self.loss()
        loss.backward()
        squares = sum(p.grad.double().pow(2).sum().item() for p in self.model.parameters() if p.grad is not None)
        return {"loss": loss.item(), "gradient_norm": math.sqrt(squares)}


def exchange(work, path):
    tensors = {"view.0": work.images.contiguous(), "labels": work.labels}
    tensors.update(work.model.exchanged())
    if work.teacher:
        tensors.update(work.teacher.exchanged("teacher.0."))
    noisy = copy.copy(work)
    noisy.images = work.images * (1 + 2.0 ** -23 * (2 * torch.rand_like(work.images) - 1))
    exact = work.double()
    if work.kind == "features":
        wanted = exact.measure()
        tensors["outputs"] = wanted.float()
        found = [w.measure() for w in (work, noisy)]
        single = [{"norm": f.norm().item(), "distance": ((f - wanted).norm() / wanted.norm()).item()} for f in found]
        reference = {"norm": wanted.norm().item(), "distance": 0.0}
    else:
        single, reference = [w.measure() for w in (work, noisy)], exact.measure()
    save_file(tensors, path)
    # As in torch_step.py: eight times the error of PyTorch's fp32 against its fp64.
    tolerance = {k: max(8 * max(abs(s[k] - r) for s in single), 1e-5 * r) for k, r in reference.items()}
    return {**single[0], "reference": reference, "tolerance": tolerance}


def timed(work, a):
    work.prepare()
    trained = [p for p in work.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.03, momentum=0.9, nesterov=True)

    def step():
        if work.kind == "features":
            with torch.inference_mode():
                work.infer(work.images)
            return
        optimizer.zero_grad()
        work.loss().backward()
        optimizer.step()
    seconds = []
    for _ in range(a.steps + 2):  # the first two compile and warm up
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[2:])
    return {"views_per_second": round(a.images / median, 3), "seconds": round(median, 4),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def main():
    parser = torch_step.options()
    parser.add_argument("kind", choices=("finetune", "frozen", "distil", "features"))
    parser.add_argument("--exchange")
    a = parser.parse_args()
    work = Work(a)
    result = exchange(work, a.exchange) if a.exchange else timed(work, a)
    print(json.dumps({"peer": "PyTorch " + torch.__version__, **result}))


if __name__ == "__main__":
    main()
