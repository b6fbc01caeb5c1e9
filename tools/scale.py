"""Models the time of a data-parallel training step on 1 to 512 GPUs, from values measured on one GPU and a network.

    python3 tools/scale.py                                             # the example, tools/scale.toml
    python3 tools/scale.py measured.json --gpus 1,8,64 --csv scale.csv --json scale.json
    python3 tools/scale.py --set compression.kind=powersgd --set batch_norm.layers=53

It estimates; it measures nothing. n GPUs are on N nodes of g; s is a message's bytes; B_i, l_i and B_e, l_e are the
bandwidth (of one GPU, in one direction) and the latency within and between nodes. A node's g adapters work together,
so B = min(B_i, g B_e) if N > 1, else B_i.

    all-reduce   base latency + the least of
      ring         2 (n-1)/n s/B + 2 (n-N) l_i + 2 (N-1) l_e
      two levels   2 (g-1)/g s/B_i + 2 (g-1) l_i + 2 (N-1)/N s/(g B_e) + 2 (N-1) l_e
      tree         2 s/B + 2 (g-1) l_i + 2 ceil(log2 N) l_e
    all-gather of s bytes of each GPU: base latency + the least of
      ring         (n-1) s/B + (n-N) l_i + (N-1) l_e
      two levels   (N-1) s/B_e + (N-1) l_e + (g-1) N s/B_i + (g-1) l_i

    slowest rank   compute * (1 + c m(n)), m(n) = E[maximum of n standard normals], c the coefficient of variation
    bucket k       begins when backward has computed its bytes and bucket k-1 is done
    step           forward + gathers + max(end of backward, end of the last bucket) + optimizer
    images/s       n * batch / max(step, time of the loader for the batches of a node)

Sources: ring all-reduce: P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
workstations", JPDC 2009. Buckets and their overlap: S. Li et al., "PyTorch Distributed: experiences on accelerating
data parallel training", VLDB 2020. Tree: P. Sanders, J. Speck and J. L. Traeff, "Two-tree algorithms for full bandwidth
broadcast, reduction and scan", Parallel Computing 2009. Hops of ring and tree over nodes: NCCL, src/graph/tuning.cc.
PowerSGD: T. Vogels, S. P. Karimireddy and M. Jaggi, NeurIPS 2019. m(n): H. A. David, "Order Statistics".

Assumptions:

- A collective takes the fastest of its algorithms, at the network's bandwidth whatever its size.
- The batch per GPU is fixed (weak scaling), and every node has the same number of GPUs.
- Gradients become ready at an even rate, in bytes, during backward. All buckets but the first are of one size; the last
  has the rest.
- Communication is on one stream, in order, and slows no kernel down.
- Compute times of ranks are normal and independent from step to step, and every step waits for the slowest rank.
- Gathers are between forward and backward and overlap with nothing.
- A layer of synchronised batch norm gathers in forward and reduces in backward, where it waits for the buckets before
  it. Its messages are spread evenly.
- The loader works ahead, so it counts only if it is slower than the step.
- fp16 halves the bytes. PowerSGD of rank r sends r * (rows + columns) * 4 bytes of every matrix in two messages per
  bucket (P, then Q), and the vectors with the first. The arithmetic of both delays backward.
"""

import argparse
import csv
import dataclasses
import json
import math
import statistics
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10 reads JSON only.
    tomllib = None

EXAMPLE = Path(__file__).with_suffix(".toml")
GPUS = [2**k for k in range(10)]
KINDS = ("none", "fp16", "powersgd")
# What is added to one GPU's compute, in the order of the table.
PARTS = ("slowest rank", "gathers", "batch norm", "compression", "gradients", "loader")
# Ends of the names of keys.
MAY_BE_INFINITE = ("bandwidth", "per_second", "bucket_bytes")
POSITIVE = (*MAY_BE_INFINITE, "batch", "step.seconds", "gradient.bytes", "rank", "gpus_per_node", "attained")
# Our choice: a part below this share of the step does not limit it.
NOTICEABLE = 0.01


class ScaleError(Exception):
    """An input that does not fit."""


@dataclass
class Step:
    """The work of one step on one GPU."""

    batch: int
    seconds: float
    backward_share: float
    optimizer_share: float = 0.0
    variation: float = 0.0


@dataclass
class Gradient:
    bytes: float
    first_bucket_bytes: float = 2**20
    bucket_bytes: float = 25 * 2**20


@dataclass
class Compression:
    kind: str = "none"
    seconds: float = 0.0
    rank: int = 1
    rows_plus_columns: int = 0
    vector_bytes: float = 0.0


@dataclass
class Gather:
    count: int = 0
    bytes: float = 0.0


@dataclass
class BatchNorm:
    layers: int = 0
    bytes: float = 0.0


@dataclass
class Loader:
    images_per_second: float = math.inf


@dataclass
class Network:
    """Bandwidths are those of one GPU in one direction."""

    gpus_per_node: int
    intra_bandwidth: float
    inter_bandwidth: float
    intra_latency: float = 0.0
    inter_latency: float = 0.0
    base_latency: float = 0.0
    attained: float = 1.0

    def nodes(self, n: int) -> int:
        return math.ceil(n / self.gpus_per_node)

    def links(self, n: int) -> tuple[int, int, float, float]:
        """(GPUs of a node in use, nodes, B_i, B_e)."""
        nodes = self.nodes(n)
        return n // nodes, nodes, self.intra_bandwidth * self.attained, self.inter_bandwidth * self.attained

    def all_reduce(self, size: float, n: int) -> float:
        """Seconds to sum `size` bytes over n GPUs."""
        if n == 1 or size == 0:
            return 0.0
        g, nodes, within, between = self.links(n)
        near, far = self.intra_latency, self.inter_latency
        joint = within if nodes == 1 else min(within, g * between)
        ring = 2 * (n - 1) / n * size / joint + 2 * (n - nodes) * near + 2 * (nodes - 1) * far
        levels = 2 * (g - 1) / g * size / within + 2 * (g - 1) * near
        levels += 2 * (nodes - 1) / nodes * size / (g * between) + 2 * (nodes - 1) * far
        tree = 2 * size / joint + 2 * (g - 1) * near + 2 * math.ceil(math.log2(nodes)) * far
        return self.base_latency + min(ring, levels, tree)

    def all_gather(self, size: float, n: int) -> float:
        """Seconds until each of n GPUs has the `size` bytes of every other one."""
        if n == 1 or size == 0:
            return 0.0
        g, nodes, within, between = self.links(n)
        near, far = self.intra_latency, self.inter_latency
        joint = within if nodes == 1 else min(within, g * between)
        ring = (n - 1) * size / joint + (n - nodes) * near + (nodes - 1) * far
        levels = (nodes - 1) * (size / between + far) + (g - 1) * (nodes * size / within + near)
        return self.base_latency + min(ring, levels)


@dataclass
class Work:
    """Everything that the model needs; the tables of the input file."""

    step: Step
    gradient: Gradient
    network: Network
    compression: Compression = field(default_factory=Compression)
    gather: Gather = field(default_factory=Gather)
    batch_norm: BatchNorm = field(default_factory=BatchNorm)
    loader: Loader = field(default_factory=Loader)


@dataclass
class Row:
    """The step on n GPUs. `parts` are seconds that are added to one GPU's compute; with it they make up the step."""

    n: int
    seconds: float
    images_per_second: float
    efficiency: float
    parts: dict[str, float]

    @property
    def limit(self) -> str:
        """The largest part, or the compute itself if all parts are small."""
        name = max(self.parts, key=self.parts.__getitem__)
        return name if self.parts[name] > NOTICEABLE * self.seconds else "compute"


# --- the model


@cache
def normal_maximum(n: int) -> float:
    """The expected maximum of n standard normals, in standard deviations."""
    if n == 1:
        return 0.0
    # E[X] = integral of P(X > x) over x > 0, less the integral of P(X < x) over x < 0; by the trapezoidal rule.
    below, width = statistics.NormalDist().cdf, 0.005
    points = [k * width for k in range(1, 1800)]
    inner = math.fsum(1 - below(x) ** n - below(-x) ** n for x in points)
    return width * (inner + (1 - 2 * below(0) ** n) / 2)


def bucket_sizes(gradient: Gradient) -> list[float]:
    """Bytes of the buckets, in the order in which they become ready."""
    first = min(gradient.first_bucket_bytes, gradient.bytes)
    full, rest = divmod(gradient.bytes - first, gradient.bucket_bytes)
    sizes = [first] + [gradient.bucket_bytes] * int(full) + [rest]
    return [size for size in sizes if size > 0]


def bucket_seconds(work: Work, size: float, n: int) -> float:
    """Seconds that the network needs for a bucket of `size` bytes of gradients."""
    compression, reduce = work.compression, work.network.all_reduce
    if compression.kind == "none":
        return reduce(size, n)
    if compression.kind == "fp16":
        return reduce(size / 2, n)
    share = size / work.gradient.bytes
    factors = compression.rank * compression.rows_plus_columns * 4 * share
    # P has the rows and Q the columns; half of the sum each.
    return reduce(factors / 2 + compression.vector_bytes * share, n) + reduce(factors / 2, n)


def events(work: Work) -> list[tuple[float, str, float]]:
    """(share of backward, "bucket" or "norm", bytes) in the order of time."""
    found, done = [], 0.0
    for size in bucket_sizes(work.gradient):
        done += size
        found.append((done / work.gradient.bytes, "bucket", size))
    layers = work.batch_norm.layers
    found += [((k + 0.5) / layers, "norm", work.batch_norm.bytes) for k in range(layers)]
    return sorted(found, key=lambda event: event[0])


def backward(work: Work, n: int, seconds: float) -> tuple[float, float]:
    """Seconds that a backward pass of `seconds` waits for batch norm, and then for the last bucket."""
    now = free = reached = waited = 0.0
    for share, kind, size in events(work):
        now += (share - reached) * seconds
        reached = share
        if kind == "bucket":
            free = max(now, free) + bucket_seconds(work, size, n)
        else:
            free = max(now, free) + work.network.all_reduce(size, n)
            waited += free - now
            now = free
    # The last event is the last bucket, which needs all of backward.
    return waited, free - now


def model(work: Work, n: int) -> Row:
    """The step on n GPUs."""
    step, network = work.step, work.network
    slow = 1 + step.variation * normal_maximum(n)
    squeezing = work.compression.seconds if work.compression.kind != "none" and n > 1 else 0.0
    computing = step.seconds * step.backward_share * slow + squeezing
    norm, gradients = backward(work, n, computing)
    forward_norm = work.batch_norm.layers * network.all_gather(work.batch_norm.bytes, n)
    parts = {
        "slowest rank": step.seconds * (slow - 1),
        "gathers": work.gather.count * network.all_gather(work.gather.bytes, n),
        "batch norm": forward_norm + norm,
        "compression": squeezing,
        "gradients": gradients,
    }
    seconds = step.seconds + math.fsum(parts.values())
    local = network.links(n)[0]
    parts["loader"] = max(0.0, local * step.batch / work.loader.images_per_second - seconds)
    seconds += parts["loader"]
    return Row(n, seconds, n * step.batch / seconds, 1.0, parts)


def table(work: Work, gpus: list[int]) -> list[Row]:
    """A row for each number of GPUs; efficiency is relative to one GPU with the same loader."""
    single = model(work, 1).images_per_second
    rows = [model(work, n) for n in gpus]
    for row in rows:
        row.efficiency = row.images_per_second / (row.n * single)
    return rows


# --- the input


def value_of(text: str) -> Any:
    """A value of --set: JSON, else a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read(path: Path, sets: list[str]) -> dict[str, dict[str, Any]]:
    """The tables of a file, with --set applied."""
    if path.suffix == ".toml" and tomllib is None:
        raise ScaleError(f"{path}: TOML needs Python 3.11 or newer; use JSON")
    try:
        tables = json.loads(path.read_text()) if path.suffix != ".toml" else tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ScaleError(f"{path}: {error}") from None
    if not isinstance(tables, dict) or not all(isinstance(keys, dict) for keys in tables.values()):
        raise ScaleError(f"{path}: must hold tables of keys and nothing else")
    for text in sets:
        name, equals, value = text.partition("=")
        table_name, dot, key = name.partition(".")
        if not (equals and dot):
            raise ScaleError(f"--set {text}: must be TABLE.KEY=VALUE")
        tables.setdefault(table_name, {})[key] = value_of(value)
    return tables


def build(tables: dict[str, dict[str, Any]]) -> Work:
    """The tables as typed values, checked."""
    kinds = {entry.name: entry.type for entry in dataclasses.fields(Work)}
    for name, keys in tables.items():
        if name not in kinds:
            raise ScaleError(f"`{name}` is not a known table: it must be one of {', '.join(kinds)}")
        known = {entry.name: entry.type for entry in dataclasses.fields(kinds[name])}
        for key, value in keys.items():
            check(f"{name}.{key}", value, known.get(key))
    try:
        work = Work(**{name: kinds[name](**keys) for name, keys in tables.items()})
    except TypeError as error:
        raise ScaleError(str(error).replace(".__init__()", "").replace("__init__()", "the input")) from None
    if work.step.backward_share + work.step.optimizer_share > 1:
        raise ScaleError("`step.backward_share` and `step.optimizer_share` must not exceed 1 together")
    return work


def check(name: str, value: Any, kind: type | None) -> None:
    """Raises if a value is not of its key's kind or out of range."""
    if kind is None:
        raise ScaleError(f"`{name}` is not known")
    if name == "compression.kind":
        if value not in KINDS:
            raise ScaleError(f"`{name}` is {value!r}: it must be one of {', '.join(KINDS)}")
        return
    whole = kind is int
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value >= 0:
        raise ScaleError(f"`{name}` is {value!r}: it must be a {'whole ' if whole else ''}number, at least 0")
    if value == 0 and name.endswith(POSITIVE):
        raise ScaleError(f"`{name}` is 0: it must be greater")
    if math.isinf(value) and not name.endswith(MAY_BE_INFINITE):
        raise ScaleError(f"`{name}` must be finite")


def counts(text: str, work: Work) -> list[int]:
    """The numbers of GPUs of --gpus."""
    per_node, found = work.network.gpus_per_node, []
    for word in text.split(","):
        if not word.strip().isdigit() or int(word) == 0:
            raise ScaleError(f"--gpus {text}: `{word}` must be a whole number, at least 1")
        found.append(int(word))
        if found[-1] > per_node and found[-1] % per_node:
            raise ScaleError(f"--gpus {text}: {word} does not fill nodes of {per_node} GPUs")
    return found


# --- the output


def record(row: Row) -> dict[str, float | str]:
    """A row with rounded numbers, for CSV and JSON."""
    head = {"n": row.n, "step_ms": round(row.seconds * 1e3, 4), "images_per_s": round(row.images_per_second, 1)}
    parts = {f"{name.replace(' ', '_')}_ms": round(row.parts[name] * 1e3, 4) for name in PARTS}
    return head | {"efficiency": round(row.efficiency, 5), "limit": row.limit} | parts


def markdown(rows: list[Row]) -> str:
    head = ["GPUs", "step, ms", "images/s", "efficiency, %", "limit", *(f"{name}, ms" for name in PARTS)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        numbers = [f"{row.n}", f"{row.seconds * 1e3:.2f}", f"{row.images_per_second:,.0f}"]
        parts = [f"{row.parts[name] * 1e3:.2f}" for name in PARTS]
        lines.append([*numbers, f"{row.efficiency * 100:.1f}", row.limit, *parts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", nargs="?", type=Path, default=EXAMPLE, help="TOML or JSON [default: the example]")
    parser.add_argument("--gpus", default=",".join(map(str, GPUS)), help="numbers of GPUs [default: %(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change a value")
    parser.add_argument("--csv", type=Path, help="also write the rows to this file")
    parser.add_argument("--json", type=Path, help="also write input and rows to this file")
    args = parser.parse_args(argv)
    try:
        work = build(read(args.input, args.set))
        rows = table(work, counts(args.gpus, work))
    except ScaleError as error:
        sys.exit(f"scale: {error}")
    print(markdown(rows))
    records = [record(row) for row in rows]
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, records[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
    if args.json:
        args.json.write_text(json.dumps({"input": dataclasses.asdict(work), "rows": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
