"""PyTorch's side of Scripts/bench-peer: one SimCLR step on this machine, laid out as PyTorch is fastest on processors.

    torch_step.py [OPTIONS]                  times steps, prints one JSON line; with --bf16 under bf16 autocast
    torch_step.py [OPTIONS] --exchange FILE  writes weights and views, prints loss and gradient norm, the same in fp64,
                                             and how far off it rounding may be
"""
import argparse
import json
import math
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import encoders

TEMPERATURE, OUTPUTS = 0.5, 128


class Model(torch.nn.Module):
    """Encoder and SimCLR's head: dense, BN, ReLU, dense, BN without offset."""

    def __init__(self, arch, size, width=1.0):
        super().__init__()
        self.encoder = encoders.ResNet(arch, width, stem="small" if size <= 64 else "imagenet")
        features = self.encoder.features
        self.head = torch.nn.ModuleList(
            [torch.nn.Linear(features, features, bias=False), torch.nn.Linear(features, OUTPUTS, bias=False)])
        self.bn = torch.nn.ModuleList([torch.nn.BatchNorm1d(features), torch.nn.BatchNorm1d(OUTPUTS)])
        self.bn[1].register_parameter("bias", None)

    def forward(self, x):
        x = F.relu(self.bn[0](self.head[0](self.encoder(x))))
        return F.normalize(self.bn[1](self.head[1](x)), dim=1)

    def exchanged(self):
        """State by the names that fixtures have."""
        names = {}
        for name, tensor in self.state_dict().items():
            part, _, rest = name.partition(".")
            if not name.endswith("num_batches_tracked"):
                names[f"head.{rest[0]}.bn{rest[1:]}" if part == "bn" else name] = tensor.contiguous()
        return names


def loss_of(model, views, bf16=False):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        z = model(views)
    z = z.float() if bf16 else z
    rows = len(z)
    similarity = (z @ z.t() / TEMPERATURE).masked_fill(torch.eye(rows, dtype=torch.bool), -1e9)
    return F.cross_entropy(similarity, (torch.arange(rows) + rows // 2) % rows)


def measure(model, views):
    """Loss and gradient norm of one step; the running statistics move, which training mode does not see."""
    model.zero_grad()
    loss = loss_of(model, views)
    loss.backward()
    squares = sum(p.grad.double().pow(2).sum().item() for p in model.parameters())
    return {"loss": loss.item(), "gradient_norm": math.sqrt(squares)}


def exchange(model, views, path):
    half = len(views) // 2
    save_file({**model.exchanged(), "view.0": views[:half].contiguous(), "view.1": views[half:].contiguous()}, path)
    single = [measure(model, views), measure(model, views * (1 + 2.0 ** -23 * (2 * torch.rand_like(views) - 1)))]
    reference = measure(model.double(), views.double())
    # Eight times the error of PyTorch's fp32 against its fp64. The scatter of its fp32 results would be too small a
    # bound: if a network amplifies rounding, they share most of their error.
    tolerance = {k: max(8 * max(abs(s[k] - r) for s in single), 1e-5 * r) for k, r in reference.items()}
    return {**single[0], "reference": reference, "tolerance": tolerance}


def images_twice(count, size):
    """Two views of `count` images: a wave of its own in each, so that a random network tells them apart, and noise."""
    place = torch.arange(size, dtype=torch.float32) * 16 / size
    fx, fy, phase, level = (torch.randn(count, 3, 1, 1) for _ in range(4))
    image = level + 1.5 * torch.cos(fx * place[None, :] + fy * place[:, None] + 3 * phase)
    return torch.cat([image + 0.3 * torch.randn(count, 3, size, size) for _ in range(2)])


def timed(model, views, a, images, begun=lambda: None):
    """Median of the steps after one that warms up; `begun` is called before each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    seconds = []
    for _ in range(a.steps + 1):  # the first warms up
        begun()
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss_of(model, views, a.bf16).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        if a.turns:
            print(json.dumps({"views_per_second": 2 * images / seconds[-1]}), flush=True)
    median = statistics.median(seconds[1:])
    return {"views_per_second": round(2 * images / median, 2), "seconds": round(median, 4),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--turns", help="a pipe: waits for a byte of it before each step, prints a line after it")
    return parser


def turns(a):
    """What waits for this program's turn."""
    if not a.turns:
        return lambda: None
    pipe = open(a.turns, "rb", buffering=0)

    def wait():
        if not pipe.read(1):
            raise SystemExit(f"{a.turns} was closed before the last step")
    return wait


def made(a):
    """Model and views of the options, channels last."""
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Model(a.arch, a.size, a.width).to(memory_format=torch.channels_last)
    return model, images_twice(a.images, a.size).to(memory_format=torch.channels_last)


def main():
    parser = options()
    parser.add_argument("--exchange")
    a = parser.parse_args()
    model, views = made(a)
    result = exchange(model, views, a.exchange) if a.exchange else timed(model, views, a, a.images, turns(a))
    print(json.dumps({"peer": "PyTorch " + torch.__version__, **result}))


if __name__ == "__main__":
    main()
