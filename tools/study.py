"""Runs recipes in several variants and with several seeds, and prints one table of the results.

    python3 tools/study.py tools/studies/switches.toml --seeds 1 2 --out runs/switches --jobs 2 --record

A study is a TOML file of [[group]] tables. Each has a `recipe`, its `variants` and, without a teacher,
`command = "train"`. A variant is what `--set` takes; a comma and a space separate several settings, and an empty text
is the recipe itself. The first variant of a group is compared with the others, seed by seed. A finished run is not
repeated, an interrupted one continues. --table only prints what exists. --record keeps the numbers as
results/DATE-MACHINE/NAME.json; NAME is the study's by default.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("tools/study.py needs Python 3.11 or newer")

import record

BINARY = Path(__file__).resolve().parent.parent / "target" / "release" / "heterodyne"


def groups(path):
    """[(command, recipe, [variant])] of a study file."""
    found = []
    try:
        for group in tomllib.loads(path.read_text())["group"]:
            recipe, variants = group["recipe"], group["variants"]
            if not isinstance(recipe, str) or not variants or not all(isinstance(v, str) for v in variants):
                raise ValueError("`recipe` is a text and `variants` a list of texts")
            if len(set(variants)) < len(variants):
                raise ValueError(f"a variant of {recipe} is listed twice")
            found.append((group.get("command", "distill"), recipe, variants))
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        sys.exit(f"{path}: {reason}; a study has [[group]] tables with `recipe` and `variants`")
    return found


def folder(out, recipe, variant, seed):
    """The folder of a run: readable, and different for every variant."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in variant.replace("methods.", "")) or "default"
    return out / Path(recipe).stem / plain / f"seed{seed}"


def summary(run):
    """The summary of a finished run, else None."""
    try:
        found = json.loads((run / "summary.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return found if found.get("status") == "finished" else None


def arguments(binary, run, command, recipe, variant, seed):
    """How a run is begun, or continued where it was interrupted."""
    if (run / "checkpoint" / "state.safetensors").exists():
        return [str(binary), command, "--resume", str(run)]
    sets = [f"seed={seed}", *(v.strip() for v in variant.split(", ") if v.strip())]
    return [str(binary), command, recipe, "--out", str(run), *(part for s in sets for part in ("--set", s))]


def execute(binary, job):
    """Runs one job; the last lines that it printed where it failed, else None."""
    run = job[0]
    if summary(run):
        return None
    if (run / "plan.json").exists() and not (run / "checkpoint" / "state.safetensors").exists():
        # Killed before its first checkpoint: there is nothing to continue.
        shutil.rmtree(run)
    run.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(arguments(binary, *job), capture_output=True, text=True)
    if done.returncode == 0:
        print(f"{run}: {summary(run)['last']['top1']:.2f} % test", file=sys.stderr, flush=True)
        return None
    return f"{run}: exit status {done.returncode}\n" + "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])


def held_out(run):
    """Top-1 on the held-out images after the last epoch; None where nothing was held out."""
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except (OSError, json.JSONDecodeError):
        return None
    found = [line["top1"] for line in lines if line.get("split") == "validation"]
    return found[-1] if found else None


def spread(values):
    """Mean and sample standard deviation as text."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)):.2f}"


def differences(values, base):
    """Mean of what a variant has over the first one, seed by seed, and each of them; nothing where no seed has both."""
    shared = [values[seed] - base[seed] for seed in values if seed in base]
    return "{:+.2f} ({})".format(sum(shared) / len(shared), ", ".join(f"{d:+.2f}" for d in shared)) if shared else ""


def table(out, study, seeds):
    """Markdown: a row for each variant; differences are means over the seeds that both variants have."""
    lines = ["| | held-out | test | against the first, held-out | test |", "|---|---|---|---|---|"]
    for _, recipe, variants in study:
        base = ({}, {})
        for i, variant in enumerate(variants):
            runs = {seed: folder(out, recipe, variant, seed) for seed in seeds}
            tests = {seed: s["last"]["top1"] for seed, run in runs.items() if (s := summary(run))}
            others = {seed: v for seed in tests if (v := held_out(runs[seed])) is not None}
            base = (others, tests) if i == 0 else base
            name = f"{Path(recipe).stem}" + (f", `{variant.replace('methods.', '')}`" if variant else "")
            cells = [
                name,
                spread(list(others.values())) if others else "",
                spread(list(tests.values())) if tests else "not run",
            ]
            cells += ["", ""] if i == 0 else [differences(others, base[0]), differences(tests, base[1])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def values(out, study, seeds):
    """What --record keeps: a row for each variant that has run, with every seed's numbers."""
    rows = []
    for group, (_, recipe, variants) in enumerate(study):
        stem, base = Path(recipe).stem, None
        # Settings of the run that all variants share say nothing about a variant.
        settings = [variant.split(", ") for variant in variants]
        shared = {s for s in settings[0] if not s.startswith("methods.") and all(s in other for other in settings)}
        for variant, own in zip(variants, settings, strict=True):
            runs = {seed: folder(out, recipe, variant, seed) for seed in seeds}
            found = {"test": {seed: s["last"]["top1"] for seed, run in runs.items() if (s := summary(run))}}
            held = {seed: held_out(runs[seed]) for seed in found["test"]}
            found["held_out"] = {seed: value for seed, value in held.items() if value is not None}
            base = found if base is None else base
            name = ", ".join(s.replace(f"methods.{stem}.", "") for s in own if s not in shared)
            row = {"group": group, "method": stem, "variant": name}
            for split in ("held_out", "test"):
                if found[split]:
                    row[split] = record.spread(found[split])
                both = {seed: value - base[split][seed] for seed, value in found[split].items() if seed in base[split]}
                if both and found is not base:
                    row[f"{split}_difference"] = record.spread(both)
            if found["test"]:
                rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    record.add_option(parser, "", "the study's")
    args = parser.parse_args()
    study = groups(args.study)
    failures = []
    if not args.table:
        if not args.binary.exists():
            sys.exit(f"{args.binary} is missing: `make build` makes it")
        # All variants with the first seed before the second seed begins.
        jobs = [
            (folder(args.out, r, v, seed), c, r, v, seed)
            for seed in args.seeds
            for c, r, variants in study
            for v in variants
        ]
        with ThreadPoolExecutor(args.jobs) as pool:
            failures = [f for f in pool.map(lambda job: execute(args.binary, job), jobs) if f]
    print(table(args.out, study, args.seeds))
    if args.record is not None and (rows := values(args.out, study, args.seeds)):
        command = record.portable(["python3", "tools/study.py", *sys.argv[1:]])
        record.save(args.record or args.study.stem, "study", rows, command, facts={"seeds": len(args.seeds)})
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
