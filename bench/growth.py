"""How a step's time and memory grow with the batch, the resolution and the number of tapped stages.

    python bench/growth.py [--steps 10] [--threads 2]
    python bench/growth.py --record        # results/DATE-MACHINE/growth.json, which tools/pages.py draws

Runs `heterodyne bench` (target/release/heterodyne), one process per point, on recipes/cifar100/uhkd.toml; the point
without taps is kd.toml.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "tools"))
from record import add_option, portable, save

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
    add_option(parser, "growth")
    args = parser.parse_args()
    values = []
    for axis, unit, points in series(args):
        print(f"{axis}: " + ", ".join(f"{x} {unit} {ms:.1f} ms {mb:.0f} MB" for x, ms, mb in points), flush=True)
        values += [{"axis": axis, "unit": unit, "x": x, "step_ms": ms, "peak_mb": mb} for x, ms, mb in points]
    if args.record:
        facts = {"threads": args.threads, "precision": args.precision, "steps": args.steps}
        save(args.record, "growth", values, portable(["python3", "bench/growth.py", *sys.argv[1:]]), facts=facts)


if __name__ == "__main__":
    main()
