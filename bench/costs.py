"""What each method costs over plain KD: time and memory of a training step, from `heterodyne bench` on one recipe each.

    python3 bench/costs.py --out target/costs.md                    # all methods, recipes/cifar100
    python3 bench/costs.py --methods crd hcd --rounds 3
    python3 bench/costs.py --record                                 # results/DATE-MACHINE/costs.json

In every round each method runs right after kd in a process of its own. Its overhead is the difference of the two median
steps. The table shows the median of the rounds and their range. A variant is written NAME:KEY=VALUE, for example
crd:draw=own.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from record import add_option, portable, save

SETS = ["data.audit=false", "train.epochs=240", "train.precision=fp32"]


def names(binary):
    """The registry's methods, kd first."""
    listed = subprocess.run([binary, "methods"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def measure(binary, recipes, variant, steps, sets):
    """One process: the JSON of `heterodyne bench`."""
    name, _, change = variant.partition(":")
    sets = [*SETS, *sets, *([f"methods.{name}.{change}"] if change else [])]
    command = [
        binary,
        "bench",
        str(recipes / f"{name}.toml"),
        "--json",
        "--steps",
        str(steps),
        *(p for s in sets for p in ("--set", s)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{variant}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def spread(values, digits=0):
    """Median, and the range where there are several."""
    text = f"{statistics.median(values):+.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):+.{digits}f} to {max(values):+.{digits}f})"


def table(found):
    """Markdown of {variant: [(kd, own)]}."""
    kd = [pair[0] for pairs in found.values() for pair in pairs]
    first = kd[0]
    steps = [m["step_ms"] for m in kd]
    lines = [
        f"kd: {statistics.median(steps):.0f} ms a step "
        f"({min(steps):.0f} to {max(steps):.0f} over {len(steps)} processes), "
        f"peak {statistics.median(m['peak_rss_mb'] for m in kd):.0f} MB; "
        f"batch {first['batch']}, {first['threads']} threads, {first['device']}",
        "",
        "| method | time over kd, ms | of a kd step | memory over kd, MB |",
        "|---|---|---|---|",
    ]
    for variant, pairs in found.items():
        ms = [own["step_ms"] - base["step_ms"] for base, own in pairs]
        share = statistics.median(100 * (own["step_ms"] / base["step_ms"] - 1) for base, own in pairs)
        memory = [own["peak_rss_mb"] - base["peak_rss_mb"] for base, own in pairs]
        lines.append(f"| `{variant}` | {spread(ms)} | {share:+.0f} % | {spread(memory)} |")
    return "\n".join(lines)


def values(found):
    """What --record keeps: kd over all processes, then every variant against the kd step before it."""
    kd = [base for pairs in found.values() for base, _ in pairs]
    middle = lambda numbers: {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}
    rows = [{"method": "kd", "step_ms": middle([m["step_ms"] for m in kd]), "processes": len(kd)}]
    rows[0]["peak_mb"] = statistics.median(m["peak_rss_mb"] for m in kd)
    for variant, pairs in found.items():
        row = {"method": variant, "over_kd_ms": middle([own["step_ms"] - base["step_ms"] for base, own in pairs])}
        shares = [100 * (own["step_ms"] / base["step_ms"] - 1) for base, own in pairs]
        row |= {"over_kd_percent": statistics.median(shares)}
        row |= {"over_kd_mb": middle([own["peak_rss_mb"] - base["peak_rss_mb"] for base, own in pairs])}
        rows.append(row | {"rounds": [[base["step_ms"], own["step_ms"]] for base, own in pairs]})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "heterodyne"))
    parser.add_argument(
        "--recipes", type=Path, default=ROOT / "recipes" / "cifar100", help="a folder with NAME.toml for each method"
    )
    parser.add_argument("--methods", nargs="+", help="all of the registry if not given")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    add_option(parser, "costs")
    args = parser.parse_args()
    if not Path(args.binary).exists():
        sys.exit(f"{args.binary} is missing: `make build` makes it")
    variants = args.methods or [name for name in names(args.binary) if name != "kd"]
    found, failed = {variant: [] for variant in variants}, []
    for _ in range(args.rounds):
        for variant in variants:
            try:
                pair = [measure(args.binary, args.recipes, v, args.steps, args.sets) for v in ("kd", variant)]
            except RuntimeError as error:
                failed.append(str(error))
                continue
            found[variant].append(pair)
            print(
                f"{variant}: {pair[1]['step_ms']:.0f} ms, kd {pair[0]['step_ms']:.0f} ms", file=sys.stderr, flush=True
            )
    found = {variant: pairs for variant, pairs in found.items() if pairs}
    if found:
        text = table(found)
        print(text)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text + "\n")
        if args.record:
            first = next(iter(found.values()))[0][0]
            facts = {"threads": first["threads"], "batch": first["batch"], "steps": args.steps}
            # Half the range of kd over all processes.
            kd = [base for pairs in found.values() for base, _ in pairs]
            for name, key in [("noise_ms", "step_ms"), ("noise_mb", "peak_rss_mb")]:
                facts[name] = round((max(m[key] for m in kd) - min(m[key] for m in kd)) / 2)
            save(
                args.record, "costs", values(found), portable(["python3", "bench/costs.py", *sys.argv[1:]]), facts=facts
            )
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
