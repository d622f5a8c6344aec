"""torchvision's side of Scripts/bench-peer: the views of JPEGs that `apus bench views` makes, on PIL, in one thread.

    torch_views.py FOLDER --views JSON [--seconds 5]     JSON: the views as apus prints them; prints one JSON line
"""
import argparse
import io
import json
import pathlib
import time

import torch
from PIL import Image

from encoders import torchvision

T = torchvision.transforms


def crop(size, o):
    known = {"bilinear": T.InterpolationMode.BILINEAR, "bicubic": T.InterpolationMode.BICUBIC}
    if o["sampling"] != "retry":
        raise SystemExit(f"torchvision samples crops by `retry`, not by `{o['sampling']}`")
    return [T.RandomResizedCrop(size, tuple(o["scale"]), tuple(o["ratio"]), known[o["interpolation"]])]


def colour(_, o):
    for what, known in ("brightness", "factor"), ("contrast", "image"), ("saturation", "blend"):
        if o[what + "By"] != known:
            raise SystemExit(f"torchvision changes {what} by `{known}`, not by `{o[what + 'By']}`")
    return [T.RandomApply([T.ColorJitter(o["brightness"], o["contrast"], o["saturation"], o["hue"])], o["probability"])]


def blur(size, o):
    if o["sharing"] != "sample":
        raise SystemExit(f"torchvision draws a blur's sigma for each `sample`, not for each `{o['sharing']}`")
    return [T.RandomApply([T.GaussianBlur(o.get("kernel") or size // 10 | 1, tuple(o["sigma"]))], o["probability"])]


def normalise(_, o):
    if o == "none":
        return [T.ToTensor()]
    if o == "dataset":
        raise SystemExit("`normalise: dataset` is known to the packed set alone; compare with `imagenet` or numbers")
    if o == "imagenet":
        o = {"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}
    return [T.ToTensor(), T.Normalize(o["mean"], o["deviation"])]


# For each operation, the corresponding transforms of torchvision.
OPERATIONS = {
    "crop": crop, "flip": lambda _, p: [T.RandomHorizontalFlip(p)], "colour": colour,
    "grey": lambda _, p: [T.RandomGrayscale(p)], "blur": blur, "normalise": normalise}


def transform(view):
    steps = []
    for operation in view["operations"]:
        (name, options), = operation.items()
        if name not in OPERATIONS:
            raise SystemExit(f"torch_views.py has no `{name}`: add it to OPERATIONS")
        steps += OPERATIONS[name](view["size"], options)
    return T.Compose(steps)


def views_of(data, transforms):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return [make(image) for make in transforms]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--views", type=json.loads, required=True)
    parser.add_argument("--seconds", type=float, default=5)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    files = [file.read_bytes() for file in sorted(a.folder.glob("*.jpg"))]
    transforms = [transform(view) for view in a.views for _ in range(view["count"])]

    # Every image once, to warm up, and to check that the statistics of both sides' views agree.
    views = [v for data in files for v in views_of(data, transforms)]
    means = torch.stack([v.mean() for v in views]).double()
    squares = torch.stack([(v.double() ** 2).mean() for v in views])
    mean, error = means.mean().item(), means.std().item() / len(means) ** 0.5
    del views
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < a.seconds:
        views_of(files[count % len(files)], transforms)
        count += 1
    seconds = time.perf_counter() - begin
    print(json.dumps({
        "peer": f"torchvision {torchvision.__version__} on PIL", "images_per_second": round(count / seconds, 2),
        "images": count,
        "bytes_per_image": round(sum(map(len, files)) / len(files)),
        "mean": mean, "mean_error": error, "deviation": (squares.mean().item() - mean ** 2) ** 0.5}))


if __name__ == "__main__":
    main()
