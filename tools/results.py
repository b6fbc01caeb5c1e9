"""Runs a whole table of results unattended: trials on held-out images, seeds with the chosen settings, the table.

    python3 tools/results.py results/main.toml --jobs 2 --work runs/main
    python3 tools/results.py results/main.toml --table

A table is a TOML file; results/main.toml is the one of the project. Every method has the same number of trials, each
with one seed and fewer epochs and without the test images: its main weight times each of `factors` at the first of
`rates`, then the best of these at the other rates. Labels alone have no weight and are tried at `bare_rates`. The final
runs measure the test images once, after their last epoch. A finished run leaves one JSON file beside the table's TOML,
in a folder of the table's name, with its command, numbers and machine. A run with such a file is not repeated; an
interrupted one continues. A method starts when the runs of the ones before it leave a job free. Run it at low priority
(`nice -n 19`); SIGTERM ends it with its runs.
"""

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import record

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("tools/results.py needs Python 3.11 or newer")

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target" / "release" / "heterodyne"

# Two-sided 97.5 % quantiles of Student's t by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def load(path):
    """A table's file, checked."""
    try:
        study = tomllib.loads(path.read_text())
        for key in ["common", "trial", "final", "factors", "rates", "bare_rates", "seeds", "method"]:
            if key not in study:
                raise ValueError(f"`{key}` is missing")
        names = [m["name"] for m in study["method"]]
        if len(set(names)) < len(names):
            raise ValueError("two methods have one name")
        if len(study["bare_rates"]) != len(study["factors"]) + len(study["rates"]) - 1:
            raise ValueError("`bare_rates` must be as many as the trials of a method: factors + rates - 1")
        for method in study["method"]:
            if not (ROOT / method["recipe"]).is_file():
                raise ValueError(f"the recipe {method['recipe']} does not exist")
            if ("weight" in method) != ("default" in method):
                raise ValueError(f"{method['name']}: `weight` and `default` go together")
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    return study


def settings(method, weight, rate):
    """What `--set` takes for a choice."""
    return [f"optim.lr={rate:g}"] + ([] if weight is None else [f"{method['weight']}={weight:.6g}"])


def first_trials(study, method):
    """(weight, rate) of the trials that do not depend on others."""
    if "weight" not in method:
        return [(None, rate) for rate in study["bare_rates"]]
    return [(method["default"] * factor, study["rates"][0]) for factor in study["factors"]]


def later_trials(study, method, done):
    """The trials that follow the first ones, whose held-out accuracies are `done`."""
    if "weight" not in method:
        return []
    best = max(done, key=done.get)
    return [(best[0], rate) for rate in study["rates"][1:]]


class Runs:
    """The runs of a table: how they are started and where their numbers are kept."""

    def __init__(self, path, study, work, binary):
        self.path, self.study, self.work, self.binary = path, study, work, binary
        self.kept = path.parent / path.stem
        # Of the code that the runs are started with, whatever is committed meanwhile.
        self.commit = record.commit() or "unknown"
        self.processes, self.stopped = set(), False

    def name(self, method, weight, rate, seed):
        text = f"lr{rate:g}" + ("" if weight is None else f"-w{weight:.6g}")
        return f"{method['name']}/{'trial' if seed is None else 'final'}-{text}" + (
            "" if seed is None else f"-seed{seed}"
        )

    def result(self, *which):
        try:
            return json.loads((self.kept / f"{self.name(*which)}.json").read_text())
        except OSError:
            return None

    def command(self, method, weight, rate, seed):
        """The run's folder and the arguments that make it on any machine, without paths and interruptions."""
        phase = self.study["trial" if seed is None else "final"]
        run = self.work / self.name(method, weight, rate, seed)
        command = method.get("command", "distill")
        # What only a teacher's recipe has is left out of a recipe without one.
        sets = [s for s in self.study["common"] if command == "distill" or not s.startswith("teacher.")]
        sets += method.get("sets", []) + phase + settings(method, weight, rate)
        sets += [f"seed={self.study['trial_seed'] if seed is None else seed}"]
        return run, [command, method["recipe"], *(part for s in sets for part in ("--set", s))]

    def execute(self, *which):
        """Runs one and keeps its numbers; raises where it fails."""
        kept = self.kept / f"{self.name(*which)}.json"
        if kept.exists():
            return
        run, fresh = self.command(*which)
        run.parent.mkdir(parents=True, exist_ok=True)
        words = [fresh[0], "--resume", str(run)] if run.exists() else [*fresh[:2], "--out", str(run), *fresh[2:]]
        started = time.monotonic()
        process = subprocess.Popen(
            [str(self.binary), *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.processes.add(process)
        if self.stopped:
            process.terminate()
        output = process.stdout.read()
        self.processes.remove(process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if self.stopped:
            raise RuntimeError("stopped; the same command continues")
        if process.returncode != 0:
            raise RuntimeError(
                f"{run}: exit status {process.returncode}\n" + "\n".join(output.strip().splitlines()[-5:])
            )
        summary = json.loads((run / "summary.json").read_text())
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        evals = {split: [line for line in lines if line.get("split") == split] for split in ("validation", "test")}
        kept.parent.mkdir(parents=True, exist_ok=True)
        text = {
            "command": "heterodyne " + shlex.join(fresh),
            "commit": self.commit,
            "machine": machine(),
            "date": time.strftime("%Y-%m-%d"),
            "held_out": evals["validation"][-1]["top1"],
            "test": evals["test"][-1]["top1"] if evals["test"] else None,
            "test_evaluations": len(evals["test"]),
            "train_seconds": summary["seconds"],
            "wall_seconds": time.monotonic() - started,
            "images_per_second": summary["images_per_second"],
            "peak_mb": usage.ru_maxrss / 1e3,
            "precision": summary["precision"],
            "versions": summary["versions"],
        }
        new = kept.with_suffix(".new")
        new.write_text(json.dumps(text, indent=1) + "\n")
        os.replace(new, kept)
        print(
            f"{self.name(*which)}: held out {text['held_out']:.2f} %"
            + (f", test {text['test']:.2f} %" if text["test"] else ""),
            flush=True,
        )

    def store_teacher(self, methods):
        """One pass of the teacher on all cores for the methods with runs to come; each would need one of its own."""
        taught = [m for m in methods if m.get("command", "distill") == "distill" and not self.is_finished(m)]
        if not taught or not any(s.startswith("teacher.cache.views=") for s in self.study["common"]):
            return
        own = [s for m in taught for s in m.get("sets", []) if s.startswith("methods.")]
        sets = [*self.study["common"], *own, f"seed={self.study['trial_seed']}", "threads=0"]
        recipes = dict.fromkeys(m["recipe"] for m in taught)
        command = [str(self.binary), "cache", *recipes, *(part for s in sets for part in ("--set", s))]
        process = subprocess.Popen(command, cwd=ROOT)
        self.processes.add(process)
        status = process.wait()
        self.processes.remove(process)
        if status != 0:
            raise RuntimeError(f"the teacher's outputs: exit status {status}")

    def is_finished(self, method):
        chosen = self.choice(method)
        return chosen is not None and all(self.result(method, *chosen, seed) for seed in self.study["seeds"])

    def choice(self, method):
        """(weight, rate) of the best trial; None where some have not run."""
        done = {
            trial: r["held_out"]
            for trial in first_trials(self.study, method)
            if (r := self.result(method, *trial, None))
        }
        if len(done) < len(first_trials(self.study, method)):
            return None
        for trial in later_trials(self.study, method, done):
            if not (r := self.result(method, *trial, None)):
                return None
            done[trial] = r["held_out"]
        return max(done, key=done.get)

    def wanted(self, method):
        """(weight, rate, seed) of a method's runs that do not depend on unfinished ones."""
        first = first_trials(self.study, method)
        done = {trial: r["held_out"] for trial in first if (r := self.result(method, *trial, None))}
        if len(done) < len(first):
            return [(*trial, None) for trial in first]
        chosen = self.choice(method)
        if chosen is None:
            return [(*trial, None) for trial in later_trials(self.study, method, done)]
        return [(*chosen, seed) for seed in self.study["seeds"]]

    def next(self, methods, running):
        """The first run that can start."""
        names = {self.name(*which) for which in running}
        for method in methods:
            for choice in self.wanted(method):
                if self.name(method, *choice) not in names and not self.result(method, *choice):
                    return method, *choice
        return None

    def run(self, methods, jobs):
        """Everything that is missing; raises at the first failure, when the runs beside it have ended."""
        running = {}
        with ThreadPoolExecutor(jobs) as pool:
            while True:
                while len(running) < jobs and (which := self.next(methods, running.values())):
                    running[pool.submit(self.execute, *which)] = which
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    future.result()

    def stop(self, *_signal):
        """Ends the runs, which leave a checkpoint each."""
        self.stopped = True
        for process in list(self.processes):
            process.terminate()


def machine():
    return f"{record.cpu_name()}, {os.cpu_count()} cores"


def interval(values):
    """Mean and half the width of its 95 % interval (Student's t); no width of a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, STUDENT[len(values) - 1] * deviation / math.sqrt(len(values))


def shown(values, sign=""):
    if not values:
        return ""
    mean, half = interval(values)
    return f"{mean:{sign}.2f}" + ("" if half is None else f" ± {half:.2f}")


def table(runs):
    """Markdown: a row for each method."""
    study = runs.study
    chosen = {m["name"]: runs.choice(m) for m in study["method"]}
    finals = {}
    for method in study["method"]:
        choice = chosen[method["name"]]
        found = {seed: runs.result(method, *choice, seed) for seed in study["seeds"]} if choice else {}
        finals[method["name"]] = {seed: r for seed, r in found.items() if r}
    head = [
        "method",
        "weight, lr",
        "test top-1, %",
        *(f"against {name}" for name in study["against"]),
        "s a run",
        "img/s",
        "MB",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in study["method"]:
        name, own = method["name"], finals[method["name"]]
        if not own:
            trials = sum(1 for t in first_trials(study, method) if runs.result(method, *t, None))
            lines.append(f"| {name} | | {trials} trials, no final run yet |" + " |" * (len(head) - 3))
            continue
        weight, rate = chosen[name]
        cells = [
            name,
            ("" if weight is None else f"{weight:.3g}, ") + f"{rate:g}",
            shown([r["test"] for r in own.values()]) + f" ({len(own)})",
        ]
        for other in study["against"]:
            base = finals.get(other, {})
            cells.append(
                "" if other == name else shown([own[s]["test"] - base[s]["test"] for s in own if s in base], "+")
            )
        mean = lambda key: sum(r[key] for r in own.values()) / len(own)
        cells += [f"{mean('train_seconds'):.0f}", f"{mean('images_per_second'):.0f}", f"{mean('peak_mb'):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the runs themselves; runs/NAME if not given")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="these methods alone")
    parser.add_argument("--binary", type=Path, default=BINARY)
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    args = parser.parse_args()
    study = load(args.study)
    work = (args.work or ROOT / "runs" / args.study.stem).absolute()
    runs = Runs(args.study.absolute(), study, work, args.binary.absolute())
    if not args.table:
        if not args.binary.exists():
            sys.exit(f"{args.binary} is missing: `make build` makes it")
        unknown = set(args.only or []) - {m["name"] for m in study["method"]}
        if unknown:
            sys.exit(f"{args.study} has no method {', '.join(sorted(unknown))}")
        methods = [m for m in study["method"] if not args.only or m["name"] in args.only]
        try:
            signal.signal(signal.SIGTERM, runs.stop)
            runs.store_teacher(methods)
            runs.run(methods, args.jobs)
        except RuntimeError as error:
            print(table(runs))
            sys.exit(str(error))
    print(table(runs))


if __name__ == "__main__":
    main()
