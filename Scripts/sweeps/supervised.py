"""Trains an encoder of the recipes *-graytiles with labels, as a reference, and saves it so that apus can evaluate it.

    supervised.py DATA OUT.safetensors --seed 1 --views 200000 [--threads 2]

DATA: packed one-channel data with train and test. ResNet-18 of width 0.25 with the small stem and a linear classifier,
on the labelled training images; random crops and flips as in the recipes; batch 128, SGD with Nesterov momentum, a rate
of 0.2 that rises over 5 % of the steps and falls by a cosine. Prints one JSON object: the classifier's right answers on
the test images, and seconds.
"""
import argparse
import glob
import io
import json
import math
import os
import sys
import time

import h5py
import numpy
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
import encoders  # noqa: E402

resized_crop = encoders.torchvision.transforms.functional.resized_crop
resize = encoders.torchvision.transforms.functional.resize
BILINEAR = encoders.torchvision.transforms.InterpolationMode.BILINEAR
RandomResizedCrop = encoders.torchvision.transforms.RandomResizedCrop
SIDE, BATCH, RATE, DECAY = 32, 128, 0.2, 5e-4
SCALE, RATIO = (0.15, 1), (3 / 4, 4 / 3)


def labelled(folder):
    """Images as (1, H, W) of bytes, labels, and the set's mean and deviation."""
    images, labels = [], []
    for path in sorted(glob.glob(os.path.join(folder, "shard-*.h5"))):
        with h5py.File(path, "r") as file:
            index = {name: file["index"][name][:] for name in file["index"]}
            data = file["bytes"][:]
            mean, deviation = float(file.attrs["mean"][0]), float(file.attrs["deviation"][0])
        if set(index["channels"]) != {1}:
            sys.exit(f"{path} has images of several channels; the reference takes grey ones")
        for i in numpy.flatnonzero(index["label"] >= 0):
            part = data[index["offset"][i]:index["offset"][i] + index["length"][i]].tobytes()
            if len(part) == index["width"][i] * index["height"][i]:
                pixels = numpy.frombuffer(part, numpy.uint8).reshape(index["height"][i], index["width"][i])
            else:
                pixels = numpy.asarray(Image.open(io.BytesIO(part)).convert("L"))
            images.append(torch.from_numpy(pixels.copy())[None])
            labels.append(int(index["label"][i]))
    if not images:
        sys.exit(f"{folder} has no labelled images")
    return images, torch.tensor(labels), mean, deviation


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data")
    options.add_argument("out")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--views", type=int, required=True)
    options.add_argument("--threads", type=int, default=2)
    options = options.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    begin = time.monotonic()
    images, labels, mean, deviation = labelled(os.path.join(options.data, "train"))
    test, test_labels, _, _ = labelled(os.path.join(options.data, "test"))
    classes = int(max(labels.max(), test_labels.max())) + 1

    def ready(tensors):
        return (torch.stack(tensors).float() / 255 - mean) / deviation

    def view(image):
        top, left, height, width = RandomResizedCrop.get_params(image, SCALE, RATIO)
        crop = resized_crop(image, top, left, height, width, [SIDE, SIDE], BILINEAR, antialias=True)
        return crop.flip(-1) if torch.rand(()) < 0.5 else crop

    encoder = encoders.ResNet("resnet18", 0.25, "small", 1)
    network = torch.nn.Sequential(encoder, torch.nn.Linear(encoder.features, classes))
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    batch = min(BATCH, len(images))
    steps = max(1, options.views // batch)
    warmup = round(steps * 0.05)
    order = []
    for step in range(steps):
        passed = (step - warmup) / max(1, steps - warmup)
        optimizer.param_groups[0]["lr"] = RATE * (
            step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * passed)))
        if len(order) < batch:
            order = torch.randperm(len(images)).tolist()
        chosen, order = order[:batch], order[batch:]
        loss = torch.nn.functional.cross_entropy(network(ready([view(images[i]) for i in chosen])), labels[chosen])
        if not torch.isfinite(loss):
            sys.exit(f"the loss is {loss.item()} at step {step} of {steps}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    network.eval()
    with torch.no_grad():
        whole = ready([resize(image, [SIDE, SIDE], BILINEAR, antialias=True) for image in test])
        answers = torch.cat([network(part).argmax(1) for part in whole.split(256)])
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, options.out)
    print(json.dumps({"classifier": [int((answers == test_labels).sum()), len(test)], "views": steps * batch,
                      "seconds": round(time.monotonic() - begin, 1), "pytorch": torch.__version__}))


if __name__ == "__main__":
    main()
