"""How a step's time and memory grow with the batch, the resolution and the number of tapped stages: docs/growth.svg and a table.

    python bench/growth.py [--steps 10] [--threads 2]
    python bench/growth.py --draw                       # from the measurements in target/growth.json

Runs `heterodyne bench` (target/release/heterodyne), one process per point, on recipes/cifar100/uhkd.toml; the point without taps is kd.toml.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PROJECT = Path(__file__).resolve().parent.parent
MEASURED = PROJECT / "target/growth.json"
LEVELS = ["[4]", "[3,4]", "[2,3,4]", "[1,2,3,4]"]


def measure(recipe, changes, steps):
    """(milliseconds per step, MB at most)"""
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    command = [
        PROJECT / "target/release/heterodyne",
        "bench",
        PROJECT / "recipes/cifar100" / recipe,
        *sets,
        "--steps",
        str(steps),
        "--json",
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    found = json.loads(done.stdout)
    return found["step_ms"], found["peak_rss_mb"]


def series(args):
    """Name of the axis, unit of x, and points (x, ms, MB)."""
    common = {"threads": args.threads, "train.precision": args.precision, "data.per_class": 20}
    point = lambda x, recipe, **changes: (
        x,
        *measure(recipe, {**common, **{k.replace("__", "."): v for k, v in changes.items()}}, args.steps),
    )
    yield "batch", "images", [point(b, "uhkd.toml", train__batch=b) for b in (16, 32, 64, 128, 256)]
    yield (
        "resolution of the student",
        "pixels",
        [point(s * s, "uhkd.toml", student__img=s, train__batch=32) for s in (32, 48, 64, 96, 128)],
    )
    taps = [point(0, "kd.toml")] + [
        point(1 + i, "uhkd.toml", methods__uhkd__levels=levels) for i, levels in enumerate(LEVELS)
    ]
    yield "tapped stages (deepest first)", "stages", taps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.draw:
        MEASURED.write_text(json.dumps(list(series(args))))
    draw(json.loads(MEASURED.read_text()))


def draw(measured):
    plt.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), layout="constrained")
    for column, (name, unit, points) in enumerate(measured):
        xs = [p[0] for p in points]
        print(f"{name}: " + ", ".join(f"{x} {unit} {ms:.1f} ms {mb:.0f} MB" for x, ms, mb in points), flush=True)
        for row, (label, ys) in enumerate(
            [("ms per step", [p[1] for p in points]), ("MB at most", [p[2] for p in points])]
        ):
            axis = axes[row][column]
            axis.plot(
                [xs[0], xs[-1]],
                [ys[0], ys[-1]],
                color="0.7",
                linestyle="--",
                linewidth=1,
                label="straight line through the ends",
            )
            axis.plot(xs, ys, marker="o", color="#1f5fa8", label="measured")
            axis.set_ylim(0, 1.08 * max(ys))
            axis.set_xlabel(f"{name}, {unit}" if row else "")
            axis.set_ylabel(label if column == 0 else "")
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, loc="upper left")
    figure.savefig(PROJECT / "docs/growth.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
