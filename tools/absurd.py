#!/usr/bin/env python3
"""Gives every key of a recipe absurd values; each has to be refused in words, or to run.

    python3 tools/absurd.py [--keys PART] [--share 1.0] [--seed 0]

The keys are those that the binary lists when it meets one that it does not know, table by table, with the keys of every
method and of every family of models; a new key is covered by itself. Each case is a recipe file of its own over a
distillation on the embedded digits. A panic, an abort, an end without a word, more than a minute of silence, or asking
for more memory than a machine has are failures; a run that goes on after ten seconds has to end when it is told to.
Needs the built binary and nothing else.
"""

import argparse
import collections
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/heterodyne"
TEACHER = """
device = "cpu"
threads = 1
data = { name = "digits", per_class = 2 }
student = { model = "vit_nano" }
train = { epochs = 1, batch = 8 }
"""
RECIPE = """
device = "cpu"
threads = 1
data = { name = "digits", per_class = 2 }
student = { model = "resnet8" }
teacher = { model = "vit_nano", weights = "teacher/weights/last.safetensors" }
train = { epochs = 1, batch = 8 }
methods.kd = {}
"""
VALUES = {
    "0": "0",
    "-1": "-1",
    "1": "1",
    "2^31": "2147483648",
    "2^63-1": "9223372036854775807",
    "-2^63": "-9223372036854775808",
    "0.5": "0.5",
    "1e-308": "1e-308",
    "1e308": "1e308",
    "-1e308": "-1e308",
    "nan": "nan",
    "inf": "inf",
    "empty text": '""',
    "a word": '"absurd"',
    "a NUL": '"a\\u0000b"',
    "1 MB of text": '"' + "x" * (1 << 20) + '"',
    "true": "true",
    "a date": "1979-05-27",
    "[]": "[]",
    "[nan]": "[nan]",
    "[0, 0]": "[0, 0]",
    "[1e308, 1e308, 1e308]": "[1e308, 1e308, 1e308]",
    "[-1]": "[-1]",
    "100,000 numbers": "[" + "1," * 100_000 + "]",
    "[[[[]]]]": "[[[[]]]]",
    "{}": "{}",
    "nested": "{ a = { b = { c = [ { d = 1 } ] } } }",
}
STRANGE = "zzqx"
PATIENCE, LIMIT = 10, 60
"""Seconds after which a run is told to stop, and those that it then has."""
MEMORY = 24 << 30
"""Bytes of addresses that a command may have; nothing here needs a quarter of it."""


def say(words, place):
    """Runs a command; its exit code (None after a hang), whether it was told to stop, and standard error."""

    def bounded():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    child = subprocess.Popen(
        [BINARY, *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=bounded
    )
    for patience, told in ((PATIENCE, False), (LIMIT, True)):
        try:
            _, stderr = child.communicate(timeout=patience)
            return child.returncode, told, stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
    child.kill()
    child.communicate()
    return None, True, ""


def case(place, settings):
    """Exit code, whether it was told to stop, and standard error of a run with `settings`, lines of TOML over the
    recipe."""
    (place / "case.toml").write_text('base = "recipe.toml"\n' + settings)
    shutil.rmtree(place / "run", ignore_errors=True)
    return say(("distill", "case.toml", "--out", "run"), place)


def keys_of(place, table, before):
    """The keys that `table` takes, as the refusal of a strange one lists them; None if it is not a table."""
    path = f"{table}.{STRANGE}" if table else STRANGE
    stderr = case(place, before + f"{path} = 1\n")[2]
    found = re.search(r" takes (.*)", stderr)
    if f"unknown key `{path}`" not in stderr or not found:
        return None
    return [] if found[1] == "no keys" else found[1].split(", ")


def walk(place, table="", before=""):
    """All keys below `table`, each as (settings that it needs, path)."""
    for key in keys_of(place, table, before) or []:
        path = f"{table}.{key}" if table else key
        yield before, path
        if path != "methods" and keys_of(place, path, before) is not None:
            yield from walk(place, path, before)


def names(place, what):
    """The names that `heterodyne models` or `methods` lists."""
    listed = subprocess.run([BINARY, what], cwd=place, capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def everything(place):
    """Every key there is, once."""
    found = dict.fromkeys(walk(place))
    for method in names(place, "methods"):
        found.update(dict.fromkeys(walk(place, f"methods.{method}")))
    seen = set()
    for model in names(place, "models"):
        # Where both have the same options, one of them will do.
        before = f'student.model = "{model}"\nstudent.img = 32\n'
        options = tuple(keys_of(place, "student.options", before) or [])
        if options and options not in seen:
            seen.add(options)
            found.update(dict.fromkeys(walk(place, "student.options", before)))
    return list(found)


def verdict(code, told, stderr):
    """What an end means: `refused`, `ran`, `ran until told to stop`, or a failure (which begins with `BAD`)."""
    if code is None:
        return "BAD hang"
    if code < 0 or code in (101, 134, 139):
        return f"BAD ended by a crash ({code})"
    for sign in (
        "panicked",
        "FATAL",
        "terminate called",
        "memory allocation of",
        "can't allocate memory",
        "Exception raised",
        "bad_alloc",
    ):
        if sign in stderr:
            return f"BAD {sign}"
    if len(stderr) > 20_000:
        return "BAD too many words"
    if code == 0:
        return "ran"
    if code == 130 and told:
        return "ran until told to stop"
    return "refused" if code in (1, 2) and re.search("^error: .", stderr, re.M) else f"BAD no word ({code})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default="", help="only keys with this in their path")
    parser.add_argument("--share", type=float, default=1.0, help="share of the cases, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    found, bad = collections.Counter(), []
    with tempfile.TemporaryDirectory(prefix="heterodyne-absurd-") as folder:
        place = pathlib.Path(folder)
        (place / "teacher.toml").write_text(TEACHER)
        (place / "recipe.toml").write_text(RECIPE)
        code, _, stderr = say(("train", "teacher.toml", "--out", "teacher"), place)
        assert code == 0, stderr
        assert case(place, "")[0] == 0
        keys = [(before, path) for before, path in everything(place) if args.keys in path]
        print(f"{len(keys)} keys, {len(VALUES)} values", flush=True)
        for before, path in keys:
            for name, value in VALUES.items():
                if rng.random() >= args.share:
                    continue
                code, told, stderr = case(place, before + f"{path} = {value}\n")
                result = verdict(code, told, stderr)
                found[result.split(" (")[0]] += 1
                if result.startswith("BAD"):
                    bad.append(f"{path} = {name} ({before.strip()}): {result}: {stderr[-400:]}")
                    print(bad[-1], flush=True)
    for result, times in sorted(found.items()):
        print(f"{result:32} {times}")
    print(f"{len(keys)} keys, {sum(found.values())} cases, {len(bad)} failures")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
