"""What processes cost: images/s and memory of N processes with one thread each against one process with N threads, same
global batch, on the embedded digits at 32 px.

    python3 bench/ranks.py                       # two processes; a conv net and a transformer as students
    python3 bench/ranks.py --ranks 4 --rounds 5
    python3 bench/ranks.py --record              # results/DATE-MACHINE/ranks.json

The two take turns. Each run's first line of metrics, which contains its start, is left out.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from record import add_option, portable, save

STUDENTS = {"resnet18": "", "vit_tiny_patch16_224": "[student.options]\npatch = 8"}
RECIPE = """
device = "cpu"
[data]
name = "digits"
img = 32
holdout = 100
[student]
model = "{student}"
img = 32
{options}
[train]
epochs = {epochs}
batch = 64
log_every = 4
test = "never"
eval_every = 1000
precision = "fp32"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(binary, recipe, out, ranks, threads):
    """Images/s after the first line, and the largest memory of each process in MB."""
    port = str(free_port())
    children = []
    for rank in range(ranks):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), GLOO_SOCKET_IFNAME="lo")
        if ranks > 1:
            env.update(RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks))
            env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        command = [binary, "train", recipe, "--out", out, "--set", f"threads={threads}"]
        pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        children.append(subprocess.Popen(command, env=env, **pipes))
    memory = []
    for child in children:
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"bench/ranks.py: a process failed: {said.strip()}")
        memory.append(usage.ru_maxrss * 1024 / 1e6)
    lines = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line][1:]
    return statistics.median(speeds), memory


def measure(arguments, student):
    record = dict(student=student, ranks=arguments.ranks, batch=64, one=[], several=[], one_mb=[], several_mb=[])
    with tempfile.TemporaryDirectory(prefix="heterodyne-ranks-") as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(RECIPE.format(student=student, options=STUDENTS[student], epochs=arguments.epochs))
        for number in range(arguments.rounds):
            for name, ranks, threads in (("one", 1, arguments.ranks), ("several", arguments.ranks, 1)):
                speed, memory = run(arguments.binary, str(recipe), f"{folder}/{name}{number}", ranks, threads)
                record[name].append(round(speed, 1))
                record[f"{name}_mb"].append(round(max(memory), 1))
    ratios = [b / a for a, b in zip(record["one"], record["several"])]
    return record | dict(ratio=statistics.median(ratios), ratio_min=min(ratios), ratio_max=max(ratios))


def line(r):
    return (
        f"{r['student']}: {r['ranks']} processes with one thread {statistics.median(r['several']):.0f} images/s, "
        f"one with {r['ranks']} threads {statistics.median(r['one']):.0f}: {r['ratio']:.2f}x "
        f"({r['ratio_min']:.2f} to {r['ratio_max']:.2f}); {statistics.median(r['several_mb']):.0f} MB each "
        f"against {statistics.median(r['one_mb']):.0f} MB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "heterodyne"))
    parser.add_argument("--student", action="append", choices=STUDENTS, help="may be repeated; all if not given")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    add_option(parser, "ranks")
    arguments = parser.parse_args()
    records = []
    for student in arguments.student or STUDENTS:
        records.append(measure(arguments, student))
        print(line(records[-1]), flush=True)
    if arguments.record:
        save(arguments.record, "ranks", records, portable(sys.argv))


if __name__ == "__main__":
    main()
