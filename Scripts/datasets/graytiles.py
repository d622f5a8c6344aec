"""Makes graytiles: 64-px grey tiles of photographs, to see what an encoder has learned. Called by Scripts/graytiles.

    graytiles.py OUT [--cache FOLDER]     makes OUT; photographs come from Debian packages, unpacked below --cache
    graytiles.py OUT --check              compares every file of OUT with its manifest

30 photographs are the classes; a tile shows a piece of one of them. Every tile is normalised to mean 128 and deviation
50, so neither colour nor brightness tells the photograph, only texture and shape. A photograph, its shorter side scaled
to 1280 px, is divided into blocks of 256 px; about a quarter of the blocks are for testing. Tiles keep 32 px from the
border of their block, so tiles of different blocks are at least 64 px apart: no pixel that is tested on was trained on.

    train/CLASS/00000.jpg   at most 100 tiles of a photograph, on a grid        test/CLASS/00000.jpg   at most 40
    unlabelled/00000.jpg    tiles at random places: of the same photographs' training blocks, and of other wallpapers
    train.txt               what to pack for training: a path a line, and its class where it has one
    manifest.json           counts, a checksum of every file, and one of all pixels before JPEG

OUT is made aside and renamed when it is whole. The same pixels come out each time; other versions of Pillow may round
some of them differently, which is told.
"""
import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys

try:
    import numpy
    import PIL
    from PIL import Image
except ImportError as error:
    sys.exit(f"graytiles needs numpy and Pillow ({error}); Scripts/install --tiles installs them")

Image.MAX_IMAGE_PIXELS = None
SIDE, BLOCK, MARGIN, SHORTER = 64, 256, 32, 1280
TRAIN, TEST, POOL = 100, 40, 8000
MOST_OF_ANOTHER = 80
LEAST_DEVIATION = 9
COUNTS = {"train": 2879, "test": 1109, "unlabelled": POOL}
# Hash of the pixels before JPEG encoding, with the Pillow of Scripts/requirements.txt.
PIXELS = "5173c0f85e0ce822e903d8e8ca146e265ccbbc448a76a6cc28b107a97f807669"

PLASMA, MATE = "plasma-workspace-wallpapers", "mate-backgrounds"
LOMIRI16, LOMIRI20 = "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04"


def _plasma(name):
    return PLASMA, f"wallpapers/{name}/contents/images/2560x1600.jpg"


def _nature(name):
    return MATE, f"backgrounds/mate/nature/{name}.jpg"


def _lomiri(name):
    return LOMIRI16, f"backgrounds/{name}.jpg"


# class: package, and the file below its usr/share
CLASSES = {
    "autumnleaves": _plasma("FallenLeaf"), "forestpath": _plasma("Path"), "boats": _plasma("EveningGlow"),
    "facade": _plasma("Grey"), "cups": _plasma("ColorfulCups"), "shrub": _plasma("OneStandsOut"),
    "pier": _plasma("ColdRipple"), "boardwalk": _plasma("BytheWater"),
    "marigold": _nature("Garden"), "dunegrass": _nature("Dune"), "planks": _nature("Wood"),
    "waterdrop": _nature("Aqua"), "seedhead": _nature("TwoWings"), "stormsea": _nature("Storm"),
    "meadow": _nature("GreenMeadow"),
    "raindrops": _nature("RainDrops"), "leafveins": _nature("Blinds"), "forgetmenot": _nature("LadyBird"),
    "sunflower": _nature("YellowFlower"), "elephants": (MATE, "backgrounds/mate/abstract/Elephants_5640x3172.jpg"),
    "brushes": _lomiri("Picture_1A_by_freespace"), "dandelions": _lomiri("seeding_by_Clements_Engelhardt"),
    "hillside": _lomiri("aitzgorri_by_Aitzol_Berasategi"), "branches": _lomiri("Dragonfly_by_Bolly"),
    "dogs": _lomiri("friends_by_Aitzol_Berasategi"), "mountains": _lomiri("picosdeeuropa_by_Aitzol_Berasategi"),
    "stream": _lomiri("life_by_Aitzol_Berasategi"), "analog": _lomiri("analogpattern_by_Peter_Nerlich"),
    "winebar": _lomiri("Wine_by_Jakkub_Mede"), "treebark": (LOMIRI20, "backgrounds/Kleiber_by_Lukas_Baubkus.jpg"),
}
# Wallpapers that repeat a class's photograph. Their pixels may be test pixels.
COPIES = ("Elephants",)


# ---- packages

def say(text):
    print(text, flush=True)


def run(command, **options):
    """Runs a program; its own words come with the error."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    except FileNotFoundError:
        sys.exit(f"there is no {command[0]} here, and the photographs are Debian's: give --cache a folder that holds "
                 f"{', '.join((PLASMA, MATE, LOMIRI16, LOMIRI20))}, each unpacked (usr/share/…)")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stdout.strip()}")


def package(name, cache):
    """The usr/share that holds a package's files: the system's where it is installed, else an unpacked copy in the
    cache. Neither root nor the package's dependencies are needed."""
    needed = [path for owner, path in CLASSES.values() if owner == name]
    unpacked = os.path.join(cache, name)
    for share in ("/usr/share", os.path.join(unpacked, "usr/share")):
        if all(os.path.exists(os.path.join(share, path)) for path in needed):
            return share
    say(f"fetching Debian's {name}")
    downloads, aside = os.path.join(cache, "debs", name), unpacked + ".partial"
    for folder in (downloads, aside, unpacked):
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(downloads)
    run(["apt-get", "download", "-q", name], cwd=downloads)
    archives = [f for f in os.listdir(downloads) if f.endswith(".deb")]
    if len(archives) != 1:
        sys.exit(f"apt-get download {name} left {archives or 'nothing'} in {downloads}; one .deb was expected")
    run(["dpkg-deb", "-x", os.path.join(downloads, archives[0]), aside])
    os.rename(aside, unpacked)
    shutil.rmtree(downloads)
    lost = [path for path in needed if not os.path.exists(os.path.join(unpacked, "usr/share", path))]
    if lost:
        sys.exit(f"{name} has no {lost[0]} ({len(lost)} photographs are missing): another release of Debian?")
    return os.path.join(unpacked, "usr/share")


def others(shares):
    """Wallpapers that are no class: (name, path), sorted; of several sizes the widest."""
    widest = {}
    taken = {os.path.realpath(os.path.join(shares[owner], path)) for owner, path in CLASSES.values()}
    roots = [(PLASMA, "wallpapers"), (MATE, "backgrounds/mate"), (LOMIRI16, "backgrounds"), (LOMIRI20, "backgrounds")]
    known = {"backgrounds": lambda f: "_by_" in f}  # other packages install pictures there too
    for owner, below in roots:
        for folder, _, files in os.walk(os.path.join(shares[owner], below)):
            for file in files:
                path = os.path.join(folder, file)
                wanted = known.get(below, lambda f: True)(file) and not file.startswith(COPIES)
                if not file.endswith((".jpg", ".png")) or not wanted or os.path.islink(path):
                    continue
                if os.path.realpath(path) in taken:
                    continue
                if owner == PLASMA and not folder.endswith("/contents/images"):
                    continue
                with Image.open(path) as image:
                    width, height = image.size
                if width < height or height < 1000:
                    continue
                name = os.path.relpath(folder if owner == PLASMA else path, shares[owner])
                if width > widest.get(name, (0, ""))[0]:
                    widest[name] = (width, path)
    return [(name, path) for name, (_, path) in sorted(widest.items())]


# ---- tiles

def key(*parts):
    """64 bits that depend on nothing but the words."""
    return int.from_bytes(hashlib.sha1("|".join(map(str, parts)).encode()).digest()[:8], "big")


def photograph(path):
    """Luminance of an image whose shorter side is 1280 px; transparent parts on mid-grey."""
    image = Image.open(path)
    if image.mode == "P":
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (128, 128, 128, 255)), image)
    image = image.convert("RGB")
    factor = SHORTER / min(image.size)
    size = tuple(max(SHORTER, round(side * factor)) for side in image.size)
    return numpy.asarray(image.resize(size, Image.LANCZOS).convert("L"))


def blocks(pixels, name):
    """Corners of the blocks for training, and of those for testing: (y, x)."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    places = [(x, y) for y in range(rows) for x in range(columns)]
    ordered = sorted(places, key=lambda place: key(name, *place))
    test = set(ordered[:max(2, round(len(ordered) * 0.28))])
    corners = lambda chosen: [(y * BLOCK, x * BLOCK) for x, y in places if ((x, y) in test) == chosen]
    return corners(False), corners(True)


def tile(pixels, y, x):
    """The tile normalised to mean 128 and deviation 50; none where it is too plain to show anything."""
    values = pixels[y:y + SIDE, x:x + SIDE].astype(numpy.float64)
    deviation = values.std()
    if deviation < LEAST_DEVIATION:
        return None
    return numpy.clip(numpy.rint((values - values.mean()) / deviation * 50 + 128), 0, 255).astype(numpy.uint8)


def on_grid(pixels, corners, name, most):
    """The first of a block's 3 × 3 tiles, in the order of their key."""
    steps = [MARGIN + i * SIDE for i in range(3)]
    places = [(top + down, left + across) for top, left in corners for down in steps for across in steps]
    places.sort(key=lambda place: key(name, place[1], place[0]))
    found = (tile(pixels, y, x) for y, x in places)
    return [t for t in found if t is not None][:most]


def anywhere(pixels, corners, name, most):
    """Tiles at random places, with the margin; fewer where most of the picture is plain."""
    random = numpy.random.RandomState(key("unlabelled", name) % 2**32)
    found = []
    for _ in range(most * 12):
        if len(found) == most:
            break
        top, left = corners[random.randint(len(corners))]
        y, x = random.randint(MARGIN, BLOCK - MARGIN - SIDE + 1, size=2)
        t = tile(pixels, top + y, left + x)
        if t is not None:
            found.append(t)
    return found


# ---- the folder

class Folder:
    def __init__(self, path):
        self.path, self.files, self.counts = path, {}, {}
        self.pixels = hashlib.sha256()

    def add(self, place, tiles):
        os.makedirs(os.path.join(self.path, place), exist_ok=True)
        for t in tiles:
            number = self.counts.get(place, 0)
            self.counts[place] = number + 1
            name = f"{place}/{number:05d}.jpg"
            self.pixels.update(name.encode() + t.tobytes())
            buffer = io.BytesIO()
            Image.fromarray(t).save(buffer, "JPEG", quality=92)
            with open(os.path.join(self.path, name), "wb") as file:
                file.write(buffer.getvalue())
            self.files[name] = hashlib.sha256(buffer.getvalue()).hexdigest()

    def total(self, split):
        return sum(n for place, n in self.counts.items() if place.split("/")[0] == split)


def build(out, cache):
    shares = {name: package(name, cache) for name in (PLASMA, MATE, LOMIRI16, LOMIRI20)}
    aside = out + ".partial"
    shutil.rmtree(aside, ignore_errors=True)
    folder = Folder(aside)
    rest = others(shares)
    say(f"{len(CLASSES)} photographs and {len(rest)} other wallpapers")
    classes = [(name, os.path.join(shares[owner], path)) for name, (owner, path) in CLASSES.items()]
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as processes:
        photographs = processes.imap(photograph, [path for _, path in rest + classes])
        unlabelled = []
        for (name, _), pixels in zip(rest, photographs):
            unlabelled += anywhere(pixels, sum(blocks(pixels, name), []), name, MOST_OF_ANOTHER)
        say(f"{len(unlabelled)} tiles of other wallpapers")
        folder.add("unlabelled", unlabelled)
        left = POOL - len(unlabelled)
        for number, ((name, _), pixels) in enumerate(zip(classes, photographs)):
            train, test = blocks(pixels, name)
            folder.add(f"train/{name}", on_grid(pixels, train, name, TRAIN))
            folder.add(f"test/{name}", on_grid(pixels, test, name, TEST))
            share = left * (number + 1) // len(classes) - left * number // len(classes)
            folder.add("unlabelled", anywhere(pixels, train, name, share))
            say(f"{name}: {folder.counts[f'train/{name}']} to train on, {folder.counts[f'test/{name}']} to test")

    counts = {split: folder.total(split) for split in COUNTS}
    if counts != COUNTS:
        sys.exit(f"graytiles came out as {counts}, expected {COUNTS}: the photographs are others than in Debian 12")
    with open(os.path.join(aside, "train.txt"), "w") as listing:
        for name in sorted(folder.files):
            split = name.split("/")[0]
            if split != "test":
                listing.write(name + (f"\t{name.split('/')[1]}" if split == "train" else "") + "\n")
    with open(os.path.join(aside, "manifest.json"), "w") as file:
        json.dump({"counts": counts, "places": folder.counts, "pixels": folder.pixels.hexdigest(),
                   "pillow": PIL.__version__, "packages": sorted(shares), "files": folder.files},
                  file, indent=1, sort_keys=True)
    check(aside)
    if os.path.exists(out):
        os.rename(out, out + ".old")
        shutil.rmtree(out + ".old")
    os.rename(aside, out)
    say(f"{out}: {', '.join(f'{n} {split}' for split, n in counts.items())}")


def check(out):
    """Every file is there and as it was written, and the pixels are the ones that figures were measured on."""
    try:
        with open(os.path.join(out, "manifest.json")) as file:
            manifest = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read the manifest of {out}: {error}; make the folder anew")
    there = {os.path.relpath(os.path.join(folder, file), out) for folder, _, files in os.walk(out)
             for file in files if file.endswith(".jpg")}
    wrong = sorted(there ^ set(manifest["files"]))
    if wrong:
        sys.exit(f"{out} and its manifest differ in {len(wrong)} files, such as {wrong[0]}; make the folder anew")
    for name, wanted in manifest["files"].items():
        with open(os.path.join(out, name), "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != wanted:
                sys.exit(f"{out}/{name} is not what was written; make the folder anew")
    if manifest["counts"] != COUNTS:
        sys.exit(f"{out} holds {manifest['counts']}, expected {COUNTS}; make the folder anew")
    say(f"{len(there)} files are as the manifest says; pixels {manifest['pixels'][:16]}")
    if manifest["pixels"] != PIXELS:
        say(f"these pixels, made by Pillow {manifest['pillow']}, are not the ones that the published figures are of")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out")
    options.add_argument("--cache", default="data/cache")
    options.add_argument("--check", action="store_true")
    options = options.parse_args()
    out = options.out.rstrip("/")
    if options.check:
        check(out)
    elif os.path.exists(out) and not os.path.exists(os.path.join(out, "manifest.json")):
        sys.exit(f"{out} is there and was not made by graytiles; name another folder")
    else:
        os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
        os.makedirs(options.cache, exist_ok=True)
        build(out, options.cache)


if __name__ == "__main__":
    main()
