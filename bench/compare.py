#!/usr/bin/env python3
"""One distillation step in PyTorch + timm and in heterodyne, measured alternately on this machine (see README.md)."""

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import selectors
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pairs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from record import add_option, describe, portable, save

BINARY = Path("target/release/heterodyne")
WORKER = Path("target/release/examples/bench_step")
RESULTS = ROOT / "target" / "bench.json"
TABLE = ROOT / "target" / "bench.md"
CACHE = ROOT / "target" / "bench" / "inductor"

KEY = ("pair", "method", "precision", "device", "cpu_level", "graph")
# Largest relative difference of the first three losses.
TOLERANCE = dict(fp32=2e-3, bf16=3e-2)
CHECKED_LOSSES = 3
# The peer's modes, of which the fastest is taken; `graphed` needs a GPU.
EAGER, COMPILED, GRAPHED = ("tuned", "contiguous"), ("compiled", "frozen"), ("graphed",)
WARM_UP, TRIAL = 2, 3
# A GPU takes longer to reach its clock and to choose its kernels, and small batches do not fill it.
GPU_WARM_UP, GPU_TRIAL, GPU_BATCHES = 20, 20, 8
# Share of a core that a waiting process may take while the other one is measured.
IDLE_SHARE = 0.05
# Blocks are kept from the kernel's page faults: nothing is given back, everything comes from one growing heap.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": "67108864"}
# What holds both sides to an older processor's instructions: ours (crates/shim/src/cpu), then libtorch's kernels
# (inductor reads the same variable), oneDNN and MKL.
CPU_LEVELS = {
    level: dict(
        zip(
            ("HETERODYNE_CPU", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"),
            values,
            strict=True,
        )
    )
    for level, values in {
        "baseline": ("baseline", "default", "SSE41", "SSE4_2"),
        "avx2": ("avx2", "avx2", "AVX2", "AVX2"),
        "avx512": ("avx512", "avx512", "AVX512_CORE", "AVX512"),
        "avx512bf16": ("avx512bf16", "avx512", "AVX512_CORE_BF16", "AVX512"),
    }.items()
}
NATIVE = "native"
# Longest wait for an answer: compilation takes minutes, a step of the largest pair seconds.
READY_TIMEOUT, STEPS_TIMEOUT = 1800.0, 900.0


class BenchError(Exception):
    """Something that the user can read and act on."""


# --- a process of either side
# ----------------------------------------------------------------------------------------------------


class Side:
    """A process that speaks the protocol; a context manager that ends it."""

    def __init__(self, name, command, job, environment, ready_timeout=READY_TIMEOUT):
        self.name, self.buffer = name, b""
        self.log = tempfile.TemporaryFile()
        spawned_at = time.time()
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment, cwd=ROOT
            )
        except OSError as error:
            self.log.close()
            raise BenchError(f"{name} does not start: {shlex.join(command)}: {error.strerror}") from None
        try:
            self.write({**job, "spawned_at": spawned_at})
            ready = self.read(ready_timeout)
            if ready.get("ready") is not True or not isinstance(ready.get("loss"), float):
                raise BenchError(f"{name}'s first answer is {ready}, not ready with a loss")
        except BaseException:
            self.close()
            raise
        self.startup_s, self.losses = ready["startup_s"], [ready["loss"]]
        self.rss_mb = self.cuda_mb = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.process.poll() is None:
            try:
                self.write({"quit": True})
                self.process.wait(10)
            except (BenchError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def write(self, line):
        try:
            self.process.stdin.write(json.dumps(line).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.died() from None

    def read(self, timeout):
        """The next answer; a process that ends or says nothing in time is an error."""
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not ready.select(max(end - time.monotonic(), 0)):
                    raise BenchError(f"{self.name} has not answered for {timeout:.0f} s{self.last_lines()}")
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise self.died()
                self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            raise BenchError(
                f"{self.name} wrote a line that is not JSON: {line[:200].decode(errors='replace')}"
            ) from None

    def steps(self, n):
        """Runs `n` steps and returns their times in ms."""
        self.write({"steps": n})
        answer = self.read(STEPS_TIMEOUT)
        if len(answer.get("ms", [])) != n or len(answer.get("losses", [])) != n:
            raise BenchError(f"{self.name} was asked for {n} steps and answered {answer}")
        self.losses += answer["losses"]
        if not all(isinstance(x, float) and math.isfinite(x) for x in self.losses):
            raise BenchError(f"{self.name}: a loss is not finite: {self.losses}")
        self.rss_mb, self.cuda_mb = answer.get("rss_mb"), answer.get("cuda_mb")
        return answer["ms"]

    def cpu_s(self):
        """Processor time that the process has used, all threads; None without /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def died(self):
        code = self.process.wait()
        return BenchError(f"{self.name} ended with status {code}{self.last_lines()}")

    def last_lines(self, count=8):
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()[-count:]
        return (
            "; its last lines:\n" + "\n".join(f"    {line}" for line in lines)
            if lines
            else "; it wrote nothing to stderr"
        )


# --- one configuration
# -----------------------------------------------------------------------------------------------------------


def check_losses(pair, method, precision, ours, peer):
    """Both sides start from the same weights and images, so that their first losses must agree."""
    for step, (a, b) in enumerate(zip(ours[:CHECKED_LOSSES], peer[:CHECKED_LOSSES], strict=True), 1):
        if not abs(a - b) <= TOLERANCE[precision] * abs(b):
            raise BenchError(
                f"{pair} {method} {precision}: the losses of step {step} differ by more than {TOLERANCE[precision]}: "
                f"ours {a:.6g}, the peer's {b:.6g}"
            )


def alternate(peer, ours, blocks, steps):
    """Medians (peer, ours) of blocks that take turns; a process that computes while it should wait is an error."""
    medians = []
    for _ in range(blocks):
        block = []
        for active, waiting in ((peer, ours), (ours, peer)):
            before, start = waiting.cpu_s(), time.monotonic()
            block.append(statistics.median(active.steps(steps)))
            elapsed, after = time.monotonic() - start, waiting.cpu_s()
            # Two ticks of the kernel's clock are no finding.
            if before is not None and after is not None and after - before > max(IDLE_SHARE * elapsed, 0.02):
                raise BenchError(
                    f"{waiting.name} used {after - before:.2f} s of processor time while it waited {elapsed:.2f} s for "
                    f"{active.name}; "
                    "are its threads spinning (OMP_WAIT_POLICY, GOMP_SPINCOUNT)?"
                )
        medians.append(tuple(block))
    return medians


def smallest(*values):
    """Of those that are known."""
    return min((v for v in values if v is not None), default=None)


def quotient(a, b):
    return None if a is None or b is None else a / b


def candidates(device, eager):
    """Modes of the peer from which the best one is taken."""
    if eager:
        return EAGER
    return EAGER + COMPILED + (GRAPHED if device == "cuda" else ())


class Runner:
    """How processes of both sides are started."""

    def __init__(self, peer, stand_in=None, cpu_level=NATIVE):
        self.peer_command, self.stand_in = peer, stand_in
        self.level = CPU_LEVELS.get(cpu_level, {})

    def ours(self, job):
        if self.stand_in:
            return Side("stand-in", self.stand_in, {**job, "mode": "tuned"}, plain_environment() | self.level)
        return Side("heterodyne", [str(WORKER)], job, plain_environment() | self.level)

    def peer(self, job, mode):
        environment = plain_environment() if mode == "shipped" else peer_environment()
        return Side(f"PyTorch ({mode})", self.peer_command, {**job, "mode": mode}, environment | self.level)


def plain_environment():
    """The user's, without settings of malloc."""
    return {name: value for name, value in os.environ.items() if name not in MALLOC}


def peer_environment():
    return {**os.environ, **MALLOC, "TORCHINDUCTOR_CACHE_DIR": str(CACHE), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def warm_up(job):
    return GPU_WARM_UP if job["device"] == "cuda" else WARM_UP


def trial(runner, job, mode):
    """A warmed-up process of the peer in one mode, and what it showed."""
    side = runner.peer(job, mode)
    try:
        side.steps(warm_up(job))
        # One step may stall on something else; the smallest of several does not.
        steps = GPU_TRIAL if job["device"] == "cuda" else TRIAL
        return side, dict(ms=min(side.steps(steps)), startup_s=side.startup_s, rss_mb=side.rss_mb, cuda_mb=side.cuda_mb)
    except BaseException:
        side.close()
        raise


def best_peer(runner, job, modes):
    """The fastest mode's process, that mode, and what every mode showed; the others have ended."""
    best, mode_of_best, shown = None, None, {}
    try:
        for mode in modes:
            try:
                side, shown[mode] = trial(runner, job, mode)
            except BenchError as error:
                # Eager PyTorch must run; what inductor cannot compile is left to the other modes.
                if mode in EAGER:
                    raise
                print(f"  {mode} is left out: {error}", file=sys.stderr, flush=True)
                continue
            slower = side
            if best is None or shown[mode]["ms"] < shown[mode_of_best]["ms"]:
                best, mode_of_best, slower = side, mode, best
            if slower is not None:
                slower.close()
    except BaseException:
        if best is not None:
            best.close()
        raise
    times = ", ".join(f"{mode} {value['ms']:.1f}" for mode, value in shown.items())
    print(f"  PyTorch's modes, ms: {times}; measured: {mode_of_best}", flush=True)
    return best, mode_of_best, shown


def measure(runner, job, label, arguments):
    """One configuration's record."""
    pair, method, precision = label
    peer, mode, shown = best_peer(runner, job, candidates(job["device"], arguments.eager))
    with peer, runner.ours(job | dict(graph=arguments.graph)) as ours:
        ours.steps(warm_up(job))
        check_losses(pair, method, precision, ours.losses, peer.losses)
        medians = alternate(peer, ours, arguments.pairs_of_runs, arguments.steps)
        ratios = [a / b for a, b in medians]
        # Compilation costs the peer start-up and memory: it is compared with the better of its eager mode and the mode
        # that won.
        peer_rss, peer_cuda = (
            smallest(shown["tuned"]["rss_mb"], peer.rss_mb),
            smallest(shown["tuned"]["cuda_mb"], peer.cuda_mb),
        )
        record = dict(
            pair=pair,
            method=method,
            precision=precision,
            device=job["device"],
            cpu_level=arguments.cpu_level,
            graph=arguments.graph,
            ours_ms=statistics.median(b for _, b in medians),
            peer_ms=statistics.median(a for a, _ in medians),
            ratio_median=statistics.median(ratios),
            ratio_min=min(ratios),
            ratio_max=max(ratios),
            rss_ratio=quotient(ours.rss_mb, peer_rss),
            startup_ratio=ours.startup_s / shown["tuned"]["startup_s"],
            peer_mode=mode,
            peer_trial_ms={name: value["ms"] for name, value in shown.items()},
            ours_rss_mb=ours.rss_mb,
            peer_rss_mb=peer_rss,
            ours_cuda_mb=ours.cuda_mb,
            peer_cuda_mb=peer_cuda,
            cuda_ratio=quotient(ours.cuda_mb, peer_cuda),
            ours_startup_s=ours.startup_s,
            peer_startup_s=shown["tuned"]["startup_s"],
            peer_mode_startup_s=peer.startup_s,
            peer_mode_rss_mb=peer.rss_mb,
            batch=job["batch"],
            img=job["student"]["img"],
            threads=job["threads"],
            pairs_of_runs=arguments.pairs_of_runs,
            steps=arguments.steps,
            quick=arguments.quick,
            largest_loss_difference=max(abs(a / b - 1) for a, b in zip(ours.losses[:CHECKED_LOSSES], peer.losses)),
        )
        if arguments.shipped:
            peer.close()
            # Float32 whatever ours is: that is what the peers' recipes set.
            with runner.peer({**job, "precision": "fp32"}, "shipped") as shipped:
                shipped.steps(warm_up(job))
                medians = alternate(shipped, ours, arguments.pairs_of_runs, arguments.steps)
                record |= dict(
                    shipped_ms=statistics.median(a for a, _ in medians),
                    shipped_ratio=statistics.median(a / b for a, b in medians),
                    shipped_rss_mb=shipped.rss_mb,
                    shipped_startup_s=shipped.startup_s,
                )
    return record


# --- results
# ---------------------------------------------------------------------------------------------------------------------


def merge(old, new):
    """Records by key; a new one takes the place of an old one."""
    key = lambda record: tuple(record[name] for name in KEY)
    replaced = {key(record): record for record in new}
    return [replaced.pop(key(record), record) for record in old] + list(replaced.values())


def read_results(path):
    if not path.exists():
        return []
    try:
        records = json.loads(path.read_text())
        records = [{"cpu_level": NATIVE, "graph": False, **record} for record in records]
        return [record for record in records if all(name in record for name in KEY)]
    except (ValueError, TypeError):
        raise BenchError(f"{path} is not a list of results; move it away") from None


def write(path, text):
    """All or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def where(record):
    """The device, the level that both sides were held to, and whether our step was recorded."""
    level = record.get("cpu_level", NATIVE)
    device = record["device"] + (", recorded" if record.get("graph") else "")
    return device if level == NATIVE else f"{device} at {level}"


def line(record):
    """A configuration in one line."""
    text = (
        f"{record['pair']} {record['method']} {record['precision']} {where(record)}: "
        f"{record['ratio_median']:.2f}x ({record['ratio_min']:.2f}..{record['ratio_max']:.2f}), "
        f"ours {record['ours_ms']:.1f} ms, peer {record['peer_ms']:.1f} ms ({record['peer_mode']}), "
        f"memory {number(record['rss_ratio'], 2)} "
        f"({number(record['ours_rss_mb'], 0)}/{number(record['peer_rss_mb'], 0)} MB), "
        f"start-up {record['startup_ratio']:.2f} ({record['ours_startup_s']:.1f}/{record['peer_startup_s']:.1f} s)"
    )
    if record.get("cuda_ratio") is not None:
        text += (
            f", GPU memory {record['cuda_ratio']:.2f} ({record['ours_cuda_mb']:.0f}/{record['peer_cuda_mb']:.0f} MB)"
        )
    if "shipped_ratio" in record:
        text += f", {record['shipped_ratio']:.2f}x against PyTorch as shipped"
    return text


def summary(records):
    """Geometric mean and smallest ratio of every device and precision."""
    out = []
    for group in sorted({(where(r), r["precision"]) for r in records}):
        ratios = [r["ratio_median"] for r in records if (where(r), r["precision"]) == group]
        mean = statistics.geometric_mean(ratios)
        out.append(
            f"{' '.join(group)}: geometric mean {mean:.2f}x, smallest {min(ratios):.2f}x, {len(ratios)} configurations"
        )
    return out


COLUMNS = {
    "pair": lambda r: r["pair"],
    "method": lambda r: r["method"],
    "precision": lambda r: r["precision"],
    "device": where,
    "batch": lambda r: str(r["batch"]),
    "ours, ms": lambda r: f"{r['ours_ms']:.1f}",
    "PyTorch, ms": lambda r: f"{r['peer_ms']:.1f}",
    "its mode": lambda r: r["peer_mode"],
    "ratio": lambda r: f"{r['ratio_median']:.2f}",
    "min..max": lambda r: f"{r['ratio_min']:.2f}..{r['ratio_max']:.2f}",
    "as shipped": lambda r: number(r.get("shipped_ratio"), 2),
    "memory": lambda r: number(r["rss_ratio"], 2),
    "ours, MB": lambda r: number(r["ours_rss_mb"], 0),
    "PyTorch, MB": lambda r: number(r["peer_rss_mb"], 0),
    "start-up": lambda r: f"{r['startup_ratio']:.2f}",
    "ours, s": lambda r: f"{r['ours_startup_s']:.1f}",
    "PyTorch, s": lambda r: f"{r['peer_startup_s']:.1f}",
}


def markdown(records):
    """The table, under every machine, date and command that it comes from."""
    out = ["# The distillation step, PyTorch + timm against heterodyne", ""]
    out += [
        "ratio = PyTorch's time / ours (median over pairs of blocks); memory and start-up = ours / PyTorch's. "
        "bench/README.md has the rest.",
        "",
    ]
    origins = {}
    for record in records:
        origins.setdefault(json.dumps(record.get("origin", {}), sort_keys=True), []).append(record)
    for origin, group in origins.items():
        out += [f"- {name}: {value}" for name, value in json.loads(origin).items()]
        out += ["", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        out += ["| " + " | ".join(column(record) for column in COLUMNS.values()) + " |" for record in group]
        out += [""]
    return "\n".join(out + summary(records)) + "\n"


def origin(arguments, versions):
    return {
        "machine": describe()["what"],
        "threads": arguments.threads,
        "date": datetime.date.today().isoformat(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "command": command_of(arguments),
    }


def command_of(arguments):
    return portable(["python", "bench/compare.py", *arguments.command])


# --- the command line
# ------------------------------------------------------------------------------------------------------------


def required_versions():
    """Versions of what the peer needs; a missing package is an error that says how to get it."""
    versions = {}
    for name in ("torch", "timm", "safetensors", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise BenchError(f"{name} is missing: {sys.executable} -m pip install -r bench/requirements.txt") from None
    return versions


def known_models(binary):
    """Names that the binary lists; None for a stand-in."""
    if not (ROOT / binary).exists():
        raise BenchError(f"{binary} is missing: make build")
    result = subprocess.run([str(binary), "models"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchError(f"{binary} models ended with status {result.returncode}: {result.stderr.strip()}")
    return {line.split()[0] for line in result.stdout.splitlines() if line.strip()}


def parse(command):
    parser = argparse.ArgumentParser(description=__doc__)
    names = [pair.name for pair in pairs.PAIRS]
    parser.add_argument(
        "--pair", action="append", help=f"part of a pair's name, may be repeated; all pairs: {', '.join(names)}"
    )
    parser.add_argument("--method", action="append", choices=pairs.METHODS, help="may be repeated; all by default")
    parser.add_argument(
        "--precision", action="append", choices=pairs.PRECISIONS, help="may be repeated; both by default"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--pairs-of-runs",
        type=int,
        default=5,
        metavar="N",
        help="pairs of blocks per configuration, at least 5 (default 5)",
    )
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps per block (default 3)")
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="threads of each side (default: all cores)",
    )
    parser.add_argument(
        "--cpu-level",
        choices=(NATIVE, *CPU_LEVELS),
        default=NATIVE,
        help="hold both sides to the instructions of an older processor (default: all that it has)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="batch size instead of the pair's (eight times as large on a GPU)"
    )
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="also measure PyTorch without tuning (always fp32, NCHW, glibc's malloc as it is)",
    )
    parser.add_argument(
        "--eager",
        action="store_true",
        help="try PyTorch's eager modes only; compiling takes minutes per configuration the first time",
    )
    parser.add_argument("--quick", action="store_true", help="--eager and one step per block: a look, not a result")
    parser.add_argument(
        "--graph", action="store_true", help="record our step (train.graph), as PyTorch's mode `graphed` does"
    )
    add_option(parser, "speed")
    parser.add_argument("--ours", type=shlex.split, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(command)
    arguments.command = command
    arguments.pair_rows = [
        pair for pair in pairs.PAIRS if not arguments.pair or any(part in pair.name for part in arguments.pair)
    ]
    if not arguments.pair_rows:
        parser.error(f"no pair has {' or '.join(arguments.pair)} in its name; the pairs are {', '.join(names)}")
    if arguments.pairs_of_runs < 5:
        parser.error("--pairs-of-runs must be at least 5")
    if min(arguments.steps, arguments.threads, arguments.batch or 2) < 1 or arguments.batch == 1:
        parser.error("--steps and --threads must be at least 1, --batch at least 2")
    if arguments.cpu_level != NATIVE and arguments.device != "cpu":
        parser.error("--cpu-level is about --device cpu")
    if arguments.quick:
        arguments.steps, arguments.eager = 1, True
    return arguments


def run(arguments):
    versions = required_versions()
    models = None if arguments.ours else known_models(BINARY)
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise BenchError(
            "--device cuda: this PyTorch sees no GPU "
            "(nvidia-smi; python -c 'import torch; print(torch.cuda.is_available())')"
        )
    torch.set_num_threads(1)
    import prepare

    runner = Runner([sys.executable, str(ROOT / "bench" / "peer.py")], arguments.ours, arguments.cpu_level)
    measured_on = origin(arguments, versions)
    records, failures = [], []
    for pair in arguments.pair_rows:
        unknown = {pair.teacher.model, pair.student.model} - (models or {pair.teacher.model, pair.student.model})
        if unknown:
            print(f"{pair.name} is skipped: {BINARY} has no {' and no '.join(sorted(unknown))}", flush=True)
            continue
        for method in arguments.method or pairs.METHODS:
            for precision in arguments.precision or pairs.PRECISIONS:
                with tempfile.TemporaryDirectory(prefix="heterodyne-bench-") as folder:
                    usual = pair.batch * (GPU_BATCHES if arguments.device == "cuda" else 1)
                    batch = arguments.batch or usual
                    job = prepare.job(pair, method, folder, precision, arguments.device, arguments.threads, batch)
                    try:
                        record = measure(runner, job, (pair.name, method, precision), arguments)
                    except BenchError as error:
                        failures.append(f"{pair.name} {method} {precision}")
                        print(f"FAILED {failures[-1]}: {error}", file=sys.stderr, flush=True)
                        continue
                records.append(record | dict(origin=measured_on))
                print(line(record), flush=True)
                merged = merge(read_results(arguments.results), records)
                write(arguments.results, json.dumps(merged, indent=1) + "\n")
                write(arguments.results.with_suffix(".md"), markdown(merged))
    print("\n".join(summary(records)))
    if records:
        print(f"written: {arguments.results} and {arguments.results.with_suffix('.md')}")
    if records and arguments.record:
        rows = [{key: value for key, value in record.items() if key != "origin"} for record in records]
        save(arguments.record, "speed", rows, command_of(arguments), ("torch", "timm"))
    if failures:
        raise BenchError(
            f"{len(failures)} of {len(failures) + len(records)} configurations failed: {', '.join(failures)}"
        )


def main():
    try:
        run(parse(sys.argv[1:]))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
