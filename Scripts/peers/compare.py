"""Holds apus against its peers on this machine. Called by Scripts/bench-peer, which says how."""
import argparse
import json
import os
import sys

import measure
import step
import sweep
import table


def single(a):
    """One step against PyTorch's fp32."""
    work = step.Step(a.arch or "resnet18", a.size or 32, a.images or 64, a.width or 1.0, a.threads)
    cpus = measure.processors(a.threads)
    own, theirs = step.show_same(a.program, work, cpus)
    rounds = table.against(a.program, work, a.pairs, a.steps or 4, cpus)
    return {
        **work._asdict(), "pairs": a.pairs, "peer": theirs["peer"], "loss": own["loss"], "peer_loss": theirs["loss"],
        "gradient_norm": own["gradient_norm"], "peer_gradient_norm": theirs["gradient_norm"],
        "views_per_second": measure.median(rounds, "apus"), "peer_views_per_second": measure.median(rounds, "PyTorch"),
        "peak_rss_mb": measure.median(rounds, "apus", "peak_rss_mb"),
        "peer_peak_rss_mb": measure.median(rounds, "PyTorch", "peak_rss_mb"),
        "ratio": measure.ratio(rounds, "apus", "PyTorch")}


def numbers(text):
    try:
        rows = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of rows, such as 1,5") from None
    wrong = [row for row in rows if row not in table.ROWS]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no row {wrong[0]}; rows are {', '.join(map(str, table.ROWS))}")
    return rows


def at_least(low, kind=int):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text} is no number") from None
        if not low <= value < 1e6:
            raise argparse.ArgumentTypeError(f"it is {text}; it must be at least {low}")
        return value
    return parse


# Settings that keep both sides from AVX-512. A build with APUS_CPU=native has it all the same.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell", "APUS_KERNELS": "simd"}


def arguments():
    parser = argparse.ArgumentParser(
        prog="Scripts/bench-peer", description="Speed against PyTorch; without options, the table.")
    parser.add_argument("--program", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=numbers, help="only these rows of the table, such as 1,5")
    parser.add_argument("--pairs", type=at_least(1), default=measure.REPEATS,
                        help="rounds of each row; of rows 6 and 10, whose rounds are steps, 9 and 3 times as many "
                             "(default: %(default)s)")
    parser.add_argument("--sweep", action="store_true",
                        help="every encoder and size, one pair each; then the slowest five anew")
    parser.add_argument("--minutes", type=at_least(1, float), default=55,
                        help="the sweep ends by then (default: %(default)s)")
    parser.add_argument("--cells", type=at_least(1),
                        help="the sweep measures at most so many, the cheapest, for trying it")
    parser.add_argument("--out", help="the sweep's results as JSON lines; what stands there is not measured again")
    parser.add_argument("--arch", choices=step.ENCODERS, help="one step alone: its encoder (resnet18)")
    parser.add_argument("--size", type=at_least(8), help="one step alone: side of the views (32)")
    parser.add_argument("--images", type=at_least(2), help="one step alone: images, two views each (64)")
    parser.add_argument("--width", type=at_least(1 / 64, float), help="one step alone: factor on channels (1)")
    parser.add_argument("--threads", type=at_least(1), default=1, help="one step alone: compute threads (1)")
    parser.add_argument("--steps", type=at_least(1),
                        help="one step alone: steps that are timed, after one that warms up (4)")
    parser.add_argument("--avx2", action="store_true", help="as on a processor without AVX-512, on both sides")
    a = parser.parse_args()
    alone = [n for n in ("arch", "size", "images", "width") if getattr(a, n) is not None]
    modes = [*(["--rows"] if a.rows else []), *(["--sweep"] if a.sweep else []), *(["--" + alone[0]] if alone else [])]
    if len(modes) > 1:
        parser.error(f"{' and '.join(modes)} ask for different things; give one of them")
    if (a.out or a.cells) and not a.sweep:
        parser.error("--out and --cells belong to --sweep")
    if not alone and (a.threads != 1 or a.steps):
        parser.error("--threads and --steps belong to one step alone: give --arch, --size, --images or --width as well")
    return a, bool(alone)


def main():
    a, is_single = arguments()
    if a.avx2:
        os.environ.update(AVX2)
    try:
        if is_single:
            result = single(a)
        elif a.sweep:
            result = sweep.run(a.program, minutes=a.minutes, pairs=a.pairs, out=a.out, most=a.cells)
        else:
            result = table.run(a.program, rows=a.rows or list(table.ROWS), pairs=a.pairs)
    except measure.Failed as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")
    print(json.dumps(result))
    if result.get("failed"):
        sys.exit(1)


if __name__ == "__main__":
    main()
