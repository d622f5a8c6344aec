"""Loads an exported encoder into PyTorch and compares features on the probe. Called by Scripts/check-export.

    check_export.py WEIGHTS PROBE    WEIGHTS: torchvision's names and those of encoders.py, with or without
                                     "encoder." before them;
                                     PROBE: view.0 (N, C, H, W), and features (N, F) as apus computed them
"""
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import encoders


def encoder_of(weights, metadata):
    """The network that the names and shapes describe, and for selective kernels the file's metadata."""
    block = "Bottleneck" if "layer1.0.conv3.weight" in weights else "BasicBlock"
    counts = [len({n.split(".")[1] for n in weights if n.startswith(f"layer{s}.")}) for s in range(1, 5)]
    name = next((n for n, (b, c) in encoders.LAYERS.items() if b.__name__ == block and c == counts), None)
    if name is None:
        sys.exit(f"no ResNet of torchvision has {counts} of {block}")
    deep = "stem.conv1.weight" in weights
    _, channels, kernel, _ = weights["stem.conv1.weight" if deep else "conv1.weight"].shape
    planes = len(weights["stem.conv3.weight" if deep else "conv1.weight"])
    stem = "small" if kernel == 3 and not deep else "imagenet"
    variant = "d" if "layer2.0.downsample.conv.weight" in weights else "b"
    ratio = float(metadata.get("apus.selectiveKernels", 0))
    described = f"{name}, width {planes / 64:g}, {stem} stem, {channels} channels"
    if variant == "d":
        described += ", ResNet-D"
    if ratio:
        described += f", selective kernels {ratio:g}"
    return described, encoders.ResNet(name, planes / 64, stem, channels, variant, ratio)


def main(weights_path, probe_path):
    weights = {n.removeprefix("encoder."): t for n, t in load_file(weights_path).items()
               if not n.startswith(("head.", "fc.", "view."))}
    probe = load_file(probe_path)
    with safe_open(weights_path, "pt") as file:
        description, network = encoder_of(weights, file.metadata() or {})
    missing, unexpected = network.load_state_dict(weights, strict=False)
    missing = [n for n in missing if not n.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"{weights_path} is no {description}: missing {missing[:4]}, unexpected {unexpected[:4]}")
    network.eval()
    view, ours = probe["view.0"], probe["features"].double()
    with torch.no_grad():
        single = network(view.float()).double()
        exact = network.double()(view.double())
    if ours.shape != exact.shape:
        sys.exit(f"features are {tuple(ours.shape)}, PyTorch's {tuple(exact.shape)}")
    difference, rounding = (ours - exact).abs().max().item(), (single - exact).abs().max().item()
    largest = exact.abs().max().item()
    bound = max(8 * rounding, 8 * 2.0 ** -23 * largest)
    print(f"PyTorch loaded {description}")
    print(f"{len(view)} images of {tuple(view.shape[1:])}, {ours.shape[1]} features up to {largest:.3g}")
    print(f"max difference {difference:.2e} (PyTorch's own rounding {rounding:.2e}, allowed {bound:.2e})")
    if not difference <= bound:
        sys.exit("the exported encoder does not compute what PyTorch computes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
