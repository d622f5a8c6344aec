"""Makes JPEGs that are as hard to decode as photographs of their size, without any photograph: see `photograph`.

    photographs.py FOLDER [--count 256]     500 × 375, quality 90, about 50 KB; prints one JSON line
"""
import argparse
import json
import pathlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT, QUALITY = 500, 375, 90


def enlarged(noise):
    """A small field of numbers as a smooth one of full size."""
    return np.asarray(Image.fromarray(noise.astype(np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def photograph(rng):
    """A bright-to-dark slope, noise at every scale with less of it the finer it is (as natural images have it), some
    surfaces with sharp borders and a grain of their own, and a sensor's noise."""
    y, x = np.mgrid[0:1:HEIGHT * 1j, 0:1:WIDTH * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 40 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    field = np.stack([light + rng.uniform(90, 160)] * 3)
    for cells in (3, 6, 12, 25, 50, 100, 200):
        shape, strength = (cells * 3 // 4, cells), 90 / cells ** 0.62
        field += strength * enlarged(rng.normal(size=shape))
        field += 0.4 * strength * np.stack([enlarged(rng.normal(size=shape)) for _ in range(3)])
    for _ in range(rng.integers(4, 9)):
        centre, radius = rng.uniform(size=2), rng.uniform(0.05, 0.3, size=2)
        inside = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 < 1
        grain = rng.uniform(2, 10) * rng.normal(size=(HEIGHT, WIDTH))
        field = np.where(inside, 0.5 * field + rng.uniform(20, 110, size=(3, 1, 1)) + grain, field)
    field += rng.normal(scale=2, size=field.shape)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=256)
    a = parser.parse_args()
    a.folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for i in range(a.count):
        photograph(rng).save(a.folder / f"{i:04}.jpg", quality=QUALITY)
    sizes = [file.stat().st_size for file in a.folder.iterdir()]
    print(json.dumps({"count": len(sizes), "width": WIDTH, "height": HEIGHT, "quality": QUALITY,
                      "mean_bytes": round(sum(sizes) / len(sizes)), "least": min(sizes), "most": max(sizes)}))


if __name__ == "__main__":
    main()
