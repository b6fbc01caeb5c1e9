#!/usr/bin/env python3
"""Kills runs and damages their files, and holds what comes out to what an undisturbed run gives.

    python3 tools/torture.py [--kills 200] [--mutations 500] [--seed 0]

Kills: a distillation on the embedded digits is killed (SIGKILL) at random times and resumed until it ends; its weights
must be those of the run that nobody disturbed. Mutations: one bit flipped, an end cut off, or two stretches swapped, in
the checkpoint, the weights, the metrics, the plan, the teacher's cache or the recipe; the tool then has to say what is
wrong, or reach the very same weights. A panic, an abort, a hang, or other weights without a word are failures. Needs
the built binary and nothing else.
"""

import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/heterodyne"
TEACHER = """
device = "cpu"
threads = 1
data = { name = "digits", per_class = 8 }
student = { model = "vit_nano" }
train = { epochs = 2, batch = 16 }
optim = { name = "adamw", lr = 1e-3 }
"""
STUDENT = """
device = "cpu"
threads = 1
data = { name = "digits", per_class = 8, augment = { crop = "pad", pad = 1 } }
student = { model = "resnet8" }
train = { epochs = 12, batch = 16, log_every = 2, ema_decay = 0.9 }
optim = { lr = 0.02 }
methods.kd = {}
[teacher]
model = "vit_nano"
weights = "teacher/weights/last.safetensors"
cache = { views = 3 }
"""
LIMIT = 120
"""Seconds after which a command counts as hanging."""


def flip(data, rng):
    """One bit is another."""
    data = bytearray(data)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncate(data, rng):
    """An end is missing."""
    return data[: rng.randrange(len(data))]


def swap(data, rng):
    """Two stretches of equal length have changed places."""
    size = rng.randint(1, max(1, len(data) // 8))
    if len(data) < 2 * size:
        return data[::-1]
    first = rng.randint(0, len(data) - 2 * size)
    second = rng.randint(first + size, len(data) - size)
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


MUTATIONS = [flip, truncate, swap]


def verdict(code, stderr, same):
    """What a command's end after a damage means: `refused`, `equal`, or a failure (which begins with `BAD`)."""
    if code is None:
        return "BAD hang"
    if code < 0 or code in (101, 134, 139):
        return f"BAD ended by a crash ({code})"
    if "panicked" in stderr or "FATAL" in stderr:
        return "BAD panic"
    if code == 0:
        return "equal" if same else "BAD other result without a word"
    return "refused" if stderr.strip() else "BAD no word"


class Place:
    """A folder with a teacher, a recipe and an undisturbed run."""

    def __init__(self, root):
        self.root = root
        (root / "teacher.toml").write_text(TEACHER)
        (root / "student.toml").write_text(STUDENT)
        assert self.run("train", "teacher.toml", "--out", "teacher")[0] == 0
        code, stderr = self.run("distill", "student.toml", "--out", "whole")
        assert code == 0, stderr
        self.whole = self.weights("whole")

    def run(self, *words):
        """Exit code (None after a hang) and standard error."""
        try:
            done = subprocess.run([BINARY, *words], cwd=self.root, capture_output=True, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stderr.decode(errors="replace")

    def weights(self, run):
        """The bytes of a run's last weights; equal weights are equal bytes."""
        path = self.root / run / "weights/last.safetensors"
        return path.read_bytes() if path.exists() else None

    def kill_after(self, seconds, *words):
        """Starts a command, kills it after a time; its exit code if it was quicker, else None."""
        with subprocess.Popen(
            [BINARY, *words], cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            try:
                return child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                return None


def kills(place, count, rng):
    """Kills runs `count` times; gives (kills, runs that ended, failures)."""
    done, ended, bad = 0, 0, []
    start = time.monotonic()
    assert place.run("distill", "student.toml", "--out", "timed")[0] == 0
    usual = time.monotonic() - start
    shutil.rmtree(place.root / "timed")
    while done < count:
        run = place.root / "killed"
        for _ in range(rng.randint(1, 4)):
            words = ("--resume", "killed") if (run / "plan.json").exists() else ("student.toml", "--out", "killed")
            done += place.kill_after(rng.uniform(0.05, usual), "distill", *words) is None
        words = ("--resume", "killed") if (run / "plan.json").exists() else ("student.toml", "--out", "killed")
        code, stderr = place.run("distill", *words)
        left = [p for p in run.rglob(".new-*")]
        if code != 0 or place.weights("killed") != place.whole or left:
            bad.append(f"after {done} kills: exit {code}, {stderr[-300:]}, left {left}")
        ended += 1
        shutil.rmtree(run, ignore_errors=True)
    return done, ended, bad


def targets(run, cache):
    """What is damaged: name, file, and the command that then reads it."""
    resume = ("distill", "--resume", run.name)
    return [
        ("checkpoint", run / "checkpoint/state.safetensors", resume),
        ("weights", run.parent / "teacher/weights/last.safetensors", ("distill", "student.toml", "--out", "again")),
        ("metrics", run / "metrics.jsonl", resume),
        ("plan", run / "plan.json", resume),
        ("manifest", run / "manifest.json", resume),
        ("manifest, repeated", run.parent / "whole/manifest.json", ("reproduce", "whole", "--out", "again")),
        ("recipe", run.parent / "student.toml", ("distill", "student.toml", "--out", "again")),
        ("cache rows", cache / "logits.rows", ("distill", "student.toml", "--out", "again")),
        ("cache sums", cache / "logits.sums", ("distill", "student.toml", "--out", "again")),
    ]


def mutations(place, count, rng):
    """Damages files `count` times; gives a count of (what, verdict) and the failures."""
    half = place.root / "half"
    start = time.monotonic()
    assert place.run("distill", "student.toml", "--out", "timed")[0] == 0
    usual = time.monotonic() - start
    # Stopped somewhere after its first checkpoint.
    share = 0.5
    while not (half / "checkpoint/state.safetensors").exists() or (half / "summary.json").exists():
        shutil.rmtree(half, ignore_errors=True)
        place.kill_after(usual * share, "distill", "student.toml", "--out", "half")
        share = rng.uniform(0.3, 0.9)
    kept = place.root / "kept"
    shutil.copytree(half, kept)
    (cache,) = (place.root / "cache").iterdir()
    found, bad = collections.Counter(), []
    for i in range(count):
        name, path, words = rng.choice(targets(half, cache))
        mutate = rng.choice(MUTATIONS)
        before = path.read_bytes()
        damaged = mutate(before, rng)
        path.write_bytes(damaged)
        code, stderr = place.run(*words)
        run = "again" if "again" in words else "half"
        # A changed recipe that is valid is another recipe: it has another result, and rightly so.
        same = place.weights(run) == place.whole or name == "recipe"
        result = verdict(code, stderr, same)
        found[name, result] += 1
        if result.startswith("BAD"):
            bad.append(f"{i}: {mutate.__name__} of the {name}: {result}: {stderr[-300:]}")
            print(bad[-1], file=sys.stderr, flush=True)
        path.write_bytes(before)
        shutil.rmtree(place.root / "again", ignore_errors=True)
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(kept, half)
    return found, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="heterodyne-torture-") as folder:
        place = Place(pathlib.Path(folder))
        done, ended, bad = kills(place, args.kills, rng) if args.kills else (0, 0, [])
        print(f"{done} kills in {ended} runs, {len(bad)} failures", flush=True)
        found, worse = mutations(place, args.mutations, rng) if args.mutations else ({}, [])
        for (name, result), times in sorted(found.items()):
            print(f"{name:12} {result:32} {times}")
        print(f"{sum(found.values())} mutations, {len(worse)} failures")
    print("\n".join(bad + worse))
    return 1 if bad or worse else 0


if __name__ == "__main__":
    sys.exit(main())
