"""Holds apus against PyTorch: first that both compute the same, then how fast, in turn. Called by Scripts/bench-peer."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile


def last_line(command):
    """The JSON object that a program prints last."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        sys.exit(f"{' '.join(command)}: status {done.returncode}, "
                 f"{'no JSON line' if not lines else 'after ' + lines[-1]}")
    return json.loads(lines[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    a = parser.parse_args()
    work = ["--arch", a.arch, "--size", str(a.size), "--images", str(a.images), "--threads", str(a.threads)]
    peer = [sys.executable, str(pathlib.Path(__file__).with_name("torch_step.py"))] + work
    ours = [a.program, "bench"] + work + ["--json"]

    with tempfile.TemporaryDirectory() as folder:
        file = folder + "/exchange.safetensors"
        theirs = last_line(peer + ["--exchange", file])
        own = last_line(ours + ["--exchange", file])
    for key, tolerance in theirs["tolerance"].items():
        difference = abs(own[key] - theirs[key])
        print(f"{key}: PyTorch {theirs[key]:.7g}, apus {own[key]:.7g}, difference {difference:.1e}, allowed {tolerance:.1e}",
              file=sys.stderr)
        if not difference <= tolerance:
            sys.exit(f"not the same work: {key} differs by more than rounding allows; nothing was timed")

    pairs = []
    for i in range(a.pairs):
        pairs.append((last_line(peer + ["--steps", str(a.steps)]), last_line(ours + ["--steps", str(a.steps)])))
        t, o = (p["views_per_second"] for p in pairs[-1])
        print(f"pair {i + 1} of {a.pairs}: PyTorch {t:.1f}, apus {o:.1f} views/s, ratio {o / t:.2f}", file=sys.stderr)
    print(json.dumps({
        "arch": a.arch, "size": a.size, "images": a.images, "threads": a.threads, "pairs": a.pairs, "peer": theirs["peer"],
        "loss": own["loss"], "peer_loss": theirs["loss"],
        "gradient_norm": own["gradient_norm"], "peer_gradient_norm": theirs["gradient_norm"],
        "views_per_second": statistics.median(o["views_per_second"] for _, o in pairs),
        "peer_views_per_second": statistics.median(t["views_per_second"] for t, _ in pairs),
        "peak_rss_mb": max(o["peak_rss_mb"] for _, o in pairs), "peer_peak_rss_mb": max(t["peak_rss_mb"] for t, _ in pairs),
        "ratio": round(statistics.median(o["views_per_second"] / t["views_per_second"] for t, o in pairs), 3)}))


if __name__ == "__main__":
    main()
