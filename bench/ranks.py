"""What processes cost: images/s and memory of N processes with one thread each against one process with N threads, same
whole batch, on the embedded digits at 32 px. Besides, N processes without a connection, each with its part of the
batch: in lockstep these take the slowest one's time in every step, which is the limit if nothing had to be sent.

    python3 bench/ranks.py                       # two processes; two conv nets and a transformer as students
    python3 bench/ranks.py --ranks 4 --rounds 5
    python3 bench/ranks.py --record              # results/DATE-MACHINE/ranks.json

The three take turns. Each run's first steps, which contain its start, are left out.
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

STUDENTS = {"resnet8x4": "", "resnet18": "", "vit_tiny_patch16_224": "[student.options]\npatch = 8"}
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
batch = {batch}
log_every = 1
test = "never"
eval_every = 1000
precision = "fp32"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


BATCH = 64
# Steps that contain the start.
START = 3


def run(binary, recipes, folder, connected, threads):
    """Seconds of each step of each process, and its largest memory in MB; a process for every recipe."""
    port, size, children, memory = str(free_port()), len(recipes), [], []
    outs = [f"{folder}/{0 if connected else rank}" for rank in range(size)]
    for rank, (recipe, out) in enumerate(zip(recipes, outs)):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), GLOO_SOCKET_IFNAME="lo")
        if connected:
            env.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size))
            env.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        command = [binary, "train", recipe, "--out", out, "--set", f"threads={threads}"]
        pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        children.append(subprocess.Popen(command, env=env, **pipes))
    for child in children:
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"bench/ranks.py: a process failed: {said.strip()}")
        memory.append(usage.ru_maxrss * 1024 / 1e6)
    return [steps(Path(out)) for out in dict.fromkeys(outs)], memory


def steps(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    ends = [line["seconds"] for line in lines if line["kind"] == "train"]
    return [end - start for start, end in zip(ends, ends[1:])][START:]


def in_lockstep(processes):
    """Mean seconds of a step if every process waited for the slowest."""
    return statistics.mean(max(step) for step in zip(*processes))


def measure(arguments, student):
    ranks = arguments.ranks
    record = dict(student=student, ranks=ranks, batch=BATCH, one=[], several=[], apart=[], one_mb=[], several_mb=[])
    with tempfile.TemporaryDirectory(prefix="heterodyne-ranks-") as folder:

        def recipe(name, batch, epochs):
            path = Path(folder) / name
            text = RECIPE.format(student=student, options=STUDENTS[student], epochs=epochs, batch=batch)
            path.write_text(text)
            return str(path)

        whole = recipe("whole.toml", BATCH, arguments.epochs)
        # As many steps with a part of the batch, and one epoch at least.
        part = recipe("part.toml", BATCH // ranks, max(1, arguments.epochs // ranks))
        arrangements = dict(
            one=([whole], False, ranks),
            several=([whole] * ranks, True, 1),
            apart=([part] * ranks, False, 1),
        )
        for number in range(arguments.rounds):
            for name, (recipes, connected, threads) in arrangements.items():
                os.mkdir(f"{folder}/{name}{number}")
                seconds, memory = run(arguments.binary, recipes, f"{folder}/{name}{number}", connected, threads)
                record[name].append(round(BATCH / in_lockstep(seconds), 1))
                if name != "apart":
                    record[f"{name}_mb"].append(round(max(memory), 1))
    for name in ("several", "apart"):
        ratios = [b / a for a, b in zip(record["one"], record[name])]
        record[f"{name}_ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
    return record


def line(r):
    ratio, limit = ("{:.2f}x ({:.2f} to {:.2f})".format(*r[f"{name}_ratio"]) for name in ("several", "apart"))
    return (
        f"{r['student']}: {r['ranks']} processes with one thread {statistics.median(r['several']):.0f} images/s, "
        f"one with {r['ranks']} threads {statistics.median(r['one']):.0f}: {ratio}, {limit} if nothing were sent; "
        f"{statistics.median(r['several_mb']):.0f} MB each against {statistics.median(r['one_mb']):.0f} MB"
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
