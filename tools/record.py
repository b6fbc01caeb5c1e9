"""Keeps a set of measurements as results/DATE-MACHINE/NAME.json, from which tools/pages.py makes the pages.

    python3 tools/record.py demo target/demo/summary.json          # the summary that `heterodyne demo` wrote
    python3 tools/record.py compare runs/compare-switches/summary.json --record switches

The benchmarks do the same with `--record NAME`. HETERODYNE_MACHINE names the machine; without it,
the name comes from the processor. A machine that results/machines.json lacks is added to it.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
# Generations of AMD's server processors by family and first model number.
ZEN = {23: [(0x00, "zen1"), (0x30, "zen2")], 25: [(0x00, "zen3"), (0x10, "zen4")], 26: [(0x00, "zen5")]}


def spread(values):
    """Mean and sample standard deviation (None for a single value) of {key: value}, which is kept as `each`."""
    numbers = list(values.values())
    mean = sum(numbers) / len(numbers)
    std = math.sqrt(sum((v - mean) ** 2 for v in numbers) / (len(numbers) - 1)) if len(numbers) > 1 else None
    return {"mean": mean, "std": std, "each": {str(key): value for key, value in values.items()}}


def dump(record):
    """JSON with one line per value, for readable diffs."""
    head = json.dumps({key: value for key, value in record.items() if key != "values"}, indent=1, ensure_ascii=False)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in record["values"])
    return f'{head[:-2]},\n "values": [\n  {rows}\n ]\n}}\n'


def portable(argv):
    """A command that works in any clone: paths inside the repository become relative, others lose their folders."""
    words = []
    for word in argv:
        path = Path(word)
        if path.is_absolute():
            word = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
        words.append(word)
    return shlex.join(words)


def commit():
    """Short hash of the checked-out commit, None outside a git repository."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or None


def cpuinfo():
    """The first processor of /proc/cpuinfo as {name: value}; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in lines}


def cpu_name():
    return cpuinfo().get("model name") or platform.processor() or platform.machine()


def level(flags):
    """The instructions that decide which kernels run."""
    known = [("avx2", "AVX2"), ("avx512f", "AVX-512"), ("avx512_bf16", "bfloat16"), ("amx_tile", "AMX")]
    return ", ".join(text for flag, text in known if flag in flags) or "below AVX2"


def gpu():
    """Names of the GPUs, None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return "; ".join(done.stdout.split("\n")).strip("; ") or None if done.returncode == 0 else None


def describe():
    """This machine as results/machines.json has it."""
    info = cpuinfo()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = {"cpu": cpu_name(), "cores": cores, "memory_gib": memory, "level": level(info.get("flags", "").split())}
    about["gpu"] = gpu()
    text = f"{cores} cores of {about['cpu']} ({about['level']}), {memory} GiB"
    return {"what": text + (f", {about['gpu']}" if about["gpu"] else ", no GPU"), **about}


def generation(info):
    """zen4, xeon-amx, .. from the fields of /proc/cpuinfo."""
    flags = info.get("flags", "").split()
    if info.get("vendor_id") == "AuthenticAMD":
        models = ZEN.get(int(info.get("cpu family", 0)), [])
        names = [name for first, name in models if int(info.get("model", 0)) >= first]
        return names[-1] if names else "amd"
    if info.get("vendor_id") == "GenuineIntel":
        family = "xeon" if "xeon" in info.get("model name", "").lower() else "intel"
        kinds = [("amx_tile", "amx"), ("avx512f", "avx512"), ("avx2", "avx2")]
        return f"{family}-{next((kind for flag, kind in kinds if flag in flags), 'sse')}"
    return re.sub(r"[^a-z0-9]+", "-", platform.machine().lower()) or "unknown"


def machine(root=RESULTS):
    """This machine's id; a new one is added to machines.json."""
    path = root / "machines.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    about = describe()
    name = os.environ.get("HETERODYNE_MACHINE")
    if not name:
        name = generation(cpuinfo())
        if about["gpu"]:
            name += "-" + re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-")
        if name in known and known[name].get("cores") != about["cores"]:
            name += f"-{about['cores']}"
    if name not in known:
        known[name] = about
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    return name


def versions(*packages):
    """Versions of heterodyne and libtorch from the sources, and of installed Python packages."""
    found = {}
    for name, file, pattern in [
        ("heterodyne", ROOT / "Cargo.toml", r'^version = "([^"]+)"'),
        ("libtorch", ROOT / "crates" / "shim" / "libtorch-version", r"^(\S+)$"),
    ]:
        match = re.search(pattern, file.read_text(), re.MULTILINE)
        if match:
            found[name] = match[1]
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def valid(name):
    """A name for `save`, checked together with HETERODYNE_MACHINE before anything runs."""
    where = os.environ.get("HETERODYNE_MACHINE")
    if where and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", where):
        raise argparse.ArgumentTypeError(f"HETERODYNE_MACHINE={where}: use lower-case letters, digits and hyphens")
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise argparse.ArgumentTypeError(f"{name}: use letters, digits, dots and hyphens")
    return name


def add_option(parser, default, shown=None):
    """`--record [NAME]`: None without it, `default` without a name."""
    text = f"keep the numbers as results/DATE-MACHINE/NAME.json (default name: {shown or default})"
    parser.add_argument("--record", nargs="?", const=default, metavar="NAME", type=valid, help=text)


def save(name, what, values, command, packages=(), facts=None, root=RESULTS):
    """Writes one set of measurements and returns its path; `facts` are single numbers that belong to the whole set."""
    where, date = machine(root), time.strftime("%Y-%m-%d")
    path = root / f"{date}-{where}" / f"{name}.json"
    record = {"what": what, "command": command, "commit": commit(), "date": date, "machine": where}
    record |= {"versions": versions(*packages), "facts": facts or {}, "values": values}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(record))
    print(f"recorded: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", file=sys.stderr)
    return path


def demo(summary):
    """(values, facts) of a demo's summary.json."""
    values = []
    for method, found in summary["methods"].items():
        seconds = found["seconds_by_seed"]
        row = {"method": method, "test": spread(found["accuracies"])}
        values.append(row | {"seconds": sum(seconds.values()) / len(seconds)})
    # The embedded test digits, which the summary does not count.
    facts = {"seconds": summary["seconds"], "teacher": summary["teacher"]["accuracy"], "test_images": 500}
    return values, facts


def compare(summary):
    """(values, facts) of a comparison's summary.json: its rows with a result, in the order in which they were given."""
    values = []
    for found in sorted(summary["rows"], key=lambda row: row["position"]):
        row = {"group": found["group"], "method": found["method"], "variant": found["variant"]}
        splits = [split for split in ("held_out", "test") if found[split]]
        row |= {split: spread(found[split]["each"]) for split in splits}
        # Within a group, the others are compared with the first.
        first = {split: found["differences"][split].get("first") for split in splits}
        row |= {f"{split}_difference": spread(found["each"]) for split, found in first.items() if found}
        if splits:
            values.append(row)
    return values, {"seeds": len(summary["seeds"])}


# What is kept: how it is read, who wrote it, and the command if the summary does not have it.
KINDS = {
    "demo": (demo, "`make demo` writes target/demo/summary.json", "make demo"),
    "compare": (compare, "`heterodyne compare` writes DIR/summary.json", None),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, about in [("demo", "a summary of `heterodyne demo`"), ("compare", "a summary of `heterodyne compare`")]:
        kind = kinds.add_parser(name, help=about)
        kind.add_argument("summary", type=Path)
        about = f"name of the file (default: {name})"
        kind.add_argument("--record", default=name, metavar="NAME", type=valid, help=about)
    args = parser.parse_args()
    read, hint, command = KINDS[args.kind]
    try:
        summary = json.loads(args.summary.read_text())
        values, facts = read(summary)
        command = command or portable(shlex.split(summary["command"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{args.summary}: not a summary of `{args.kind}`: {error!r}\nhint: {hint}")
    # The pages know the rows of a comparison as a study.
    save(args.record, "demo" if args.kind == "demo" else "study", values, command, facts=facts)


if __name__ == "__main__":
    main()
