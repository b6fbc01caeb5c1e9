"""Runs a whole table of results unattended: trials on held-out images, seeds with the chosen settings, the table.

    python3 tools/results.py results/main.toml --jobs 2 --work runs/main
    python3 tools/results.py results/main.toml --set device=cuda threads=4
    python3 tools/results.py results/main.toml --table

A table is a TOML file. Every method has the same number of trials, each with one seed and fewer epochs and without the
test images: its main weight times each of `factors` at the first of `rates`, then the best of these at the other rates.
Labels alone have no weight and are tried at `bare_rates`. The final runs measure the test images once, after their last
epoch. Where there is nothing to choose, there are no trials. A table may take the choices of another one (`choices`),
with its settings and methods, to which it adds its own; a method `like` another has that one's choice and settings. A
table with a `teacher` trains it first.

A finished run leaves one JSON file beside the table's TOML, in a folder of the table's name, with its command, numbers
and machine. A run with such a file is not repeated; an interrupted one continues. A method starts when the runs of the
ones before it leave a job free. Run it at low priority (`nice -n 19`); SIGTERM ends it with its runs.
"""

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import textwrap
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
        if "choices" in study:
            study = merged(load(path.parent / study["choices"]), study)
        required = ["common", "final", "factors", "rates", "bare_rates", "seeds", "against", "method"]
        for key in required + (["trial", "trial_seed"] if len(study.get("bare_rates", [])) > 1 else []):
            if key not in study:
                raise ValueError(f"`{key}` is missing")
        names = [m["name"] for m in study["method"]]
        if len(set(names)) < len(names):
            raise ValueError("two methods have one name")
        if "teacher" in names:
            raise ValueError("a method cannot be called teacher: the teacher's run has that folder")
        if unknown := set(study["against"]) - set(names):
            raise ValueError(f"`against` names {', '.join(sorted(unknown))}, which is no method")
        if len(study["bare_rates"]) != len(study["factors"]) + len(study["rates"]) - 1:
            raise ValueError("`bare_rates` must be as many as the trials of a method: factors + rates - 1")
        for method in study["method"] + ([study["teacher"]] if "teacher" in study else []):
            if not (ROOT / method["recipe"]).is_file():
                raise ValueError(f"the recipe {method['recipe']} does not exist")
            if ("weight" in method) != ("default" in method):
                raise ValueError(f"{method['name']}: `weight` and `default` go together")
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    return study


def merged(base, study):
    """A table that has the choices of `base`: what it lacks is the other's, and settings are added to the other's."""
    known = {method["name"]: method for method in base["method"]}
    methods = []
    for own in study["method"]:
        like = own.get("like", own["name"])
        if like not in known:
            raise ValueError(f"{study['choices']} has no method {like}")
        methods.append({**known[like], **own, "sets": known[like].get("sets", []) + own.get("sets", [])})
    added = {key: base[key] + study.get(key, []) for key in ("common", "final")}
    return {**base, **study, **added, "method": methods}


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

    def __init__(self, path, study, work, binary, sets=(), commit=None):
        self.path, self.study, self.work, self.binary, self.sets = path, study, work, binary, list(sets)
        self.kept = path.parent / path.stem
        self.elsewhere = None
        if "choices" in study:
            other = path.parent / study["choices"]
            self.elsewhere = Runs(other, load(other), work, binary)
        # Of the code that the runs are started with, whatever is committed meanwhile.
        self.commit = commit or record.commit() or "unknown"
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

    def teacher(self):
        """The run that trains the table's own teacher, if it has one."""
        own = self.study.get("teacher")
        return own and ({"name": "teacher", "command": "train", **own}, None, own["rate"], own["seed"])

    def own_teacher(self):
        """The setting that names it, in the folder that is used without `--work`."""
        return [f"teacher.weights=runs/{self.path.stem}/{self.name(*self.teacher())}"] if self.teacher() else []

    def placed(self, words):
        """Words of a command with the folder of this table's runs."""
        usual, here = f"teacher.weights=runs/{self.path.stem}/", f"teacher.weights={self.work}/"
        return [here + word.removeprefix(usual) if word.startswith(usual) else word for word in words]

    def command(self, method, weight, rate, seed):
        """The run's folder and the arguments that make it on any machine, without paths and interruptions."""
        phase = self.study["trial" if seed is None else "final"]
        run = self.work / self.name(method, weight, rate, seed)
        command = method.get("command", "distill")
        sets = self.study["common"]
        if method["name"] == "teacher":
            sets = [s for s in sets if not s.startswith(("student.", "optim.", "schedule."))]
        elif command == "distill":
            sets = sets + self.own_teacher()
        sets = [*sets, *phase, *method.get("sets", []), *settings(method, weight, rate)]
        sets += [f"seed={self.study['trial_seed'] if seed is None else seed}", *self.sets]
        if command == "train":  # a recipe without a teacher refuses a teacher's settings
            sets = [s for s in sets if not s.startswith("teacher.")]
        return run, [command, method["recipe"], *(part for s in sets for part in ("--set", s))]

    def execute(self, *which):
        """Runs one and keeps its numbers; raises where it fails."""
        kept = self.kept / f"{self.name(*which)}.json"
        if kept.exists():
            return
        run, fresh = self.command(*which)
        run.parent.mkdir(parents=True, exist_ok=True)
        own = self.placed(fresh)
        words = [own[0], "--resume", str(run)] if run.exists() else [*own[:2], "--out", str(run), *own[2:]]
        started = time.monotonic()
        process = subprocess.Popen(
            [str(self.binary), *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.processes.add(process)
        if self.stopped:
            process.terminate()
        with process.stdout as pipe:
            output = pipe.read()
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
        # Variants of one method contradict each other; what they need beyond it they store themselves.
        taught = [m for m in methods if m.get("command", "distill") == "distill" and "like" not in m]
        taught = [m for m in taught if not self.is_finished(m)]
        if not taught or not any(s.startswith("teacher.cache.views=") for s in self.study["common"]):
            return
        own = [s for m in taught for s in m.get("sets", []) if s.startswith("methods.")]
        sets = [*self.study["common"], *self.own_teacher(), *own, f"seed={self.study['seeds'][0]}", "threads=0"]
        recipes = dict.fromkeys(m["recipe"] for m in taught)
        command = ["cache", *recipes, *(part for s in sets + self.sets for part in ("--set", s))]
        process = subprocess.Popen([str(self.binary), *self.placed(command)], cwd=ROOT)
        self.processes.add(process)
        status = process.wait()
        self.processes.remove(process)
        if status != 0:
            raise RuntimeError(f"the teacher's outputs: exit status {status}")

    def is_finished(self, method):
        chosen = self.choice(method)
        return chosen is not None and all(self.result(method, *chosen, seed) for seed in self.study["seeds"])

    def choice(self, method):
        """(weight, rate) of the best trial, or all there is; None where some have not run."""
        if self.elsewhere:
            known = {m["name"]: m for m in self.elsewhere.study["method"]}
            return self.elsewhere.choice(known[method.get("like", method["name"])])
        trials = first_trials(self.study, method)
        if len(self.study["bare_rates"]) == 1:
            return trials[0]
        done = self.accuracies(method, trials)
        if len(done) < len(trials):
            return None
        later = later_trials(self.study, method, done)
        done |= self.accuracies(method, later)
        return max(done, key=done.get) if len(done) == len(trials) + len(later) else None

    def accuracies(self, method, trials):
        """Held-out accuracy of the finished ones."""
        return {t: r["held_out"] for t in trials if (r := self.result(method, *t, None))}

    def wanted(self, method):
        """(weight, rate, seed) of a method's runs that do not depend on unfinished ones."""
        if (chosen := self.choice(method)) is not None:
            return [(*chosen, seed) for seed in self.study["seeds"]]
        if self.elsewhere:
            return []
        trials = first_trials(self.study, method)
        done = self.accuracies(method, trials)
        if len(done) == len(trials):
            trials = later_trials(self.study, method, done)
        return [(*trial, None) for trial in trials]

    def next(self, methods, running):
        """The first run that can start."""
        if (teacher := self.teacher()) and not self.result(*teacher):
            return None if running else teacher
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


def top1(result):
    """Accuracy on the test images, or on the held-out ones of a run that never saw those."""
    return result["held_out"] if result["test"] is None else result["test"]


def table(runs, link="{}"):
    """Markdown: a row for each method. `link` shows the path of a run's file, which has its whole command."""
    study = runs.study
    chosen = {m["name"]: runs.choice(m) for m in study["method"]}
    finals = {}
    for method in study["method"]:
        choice = chosen[method["name"]]
        found = {seed: runs.result(method, *choice, seed) for seed in study["seeds"]} if choice else {}
        finals[method["name"]] = {seed: r for seed, r in found.items() if r}
    images = "held-out" if "train.test=never" in study["final"] else "test"
    against = [f"against {name}" for name in study["against"]]
    head = ["method", "weight, lr", f"{images} top-1, %", *against, "s a run", "img/s", "MB"]
    head += ["commit", "machine", "run"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    missing = []
    for method in study["method"]:
        name, own = method["name"], finals[method["name"]]
        if not own:
            trials = len(list((runs.kept / name).glob("trial-*.json")))
            missing.append(f"`{name}`" + (f" ({trials} of {len(study['bare_rates'])} trials)" if trials else ""))
            continue
        weight, rate = chosen[name]
        cells = [
            name,
            ("" if weight is None else f"{weight:.3g}, ") + f"{rate:g}",
            shown([top1(r) for r in own.values()]) + f" ({len(own)})",
        ]
        for other in study["against"]:
            base = finals[other]
            cells.append("" if other == name else shown([top1(own[s]) - top1(base[s]) for s in own if s in base], "+"))
        mean = lambda key: sum(r[key] for r in own.values()) / len(own)
        every = lambda key: ", ".join(sorted({r[key] for r in own.values()}))
        cells += [f"{mean('train_seconds'):.0f}", f"{mean('images_per_second'):.0f}", f"{mean('peak_mb'):.0f}"]
        cells += [every("commit"), every("machine"), link.format(runs.name(method, weight, rate, min(own)))]
        lines.append(f"| {' | '.join(cells)} |")
    if missing:
        lines += ["", textwrap.fill(f"Without a final run: {', '.join(missing)}.", 120)]
    if (own := runs.teacher()) and (result := runs.result(*own)):
        lines += ["", f"The teacher: {top1(result):.2f} %, {link.format(runs.name(*own))}."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the runs themselves; runs/NAME if not given")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="these methods alone")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for all runs: the device, threads")
    parser.add_argument("--binary", type=Path, help="a program other than the built one, with the --commit it is of")
    parser.add_argument("--commit", help="the commit that --binary was built from")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    args = parser.parse_args()
    if (args.binary is None) != (args.commit is None):
        parser.error("--binary and --commit are given together: the results name the commit of the program")
    binary = (args.binary or BINARY).absolute()
    study = load(args.study)
    work = (args.work or ROOT / "runs" / args.study.stem).absolute()
    runs = Runs(args.study.absolute(), study, work, binary, args.set, args.commit)
    if not args.table:
        if not binary.exists():
            sys.exit(f"{binary} is missing: `make build` makes it")
        unknown = set(args.only or []) - {m["name"] for m in study["method"]}
        if unknown:
            sys.exit(f"{args.study} has no method {', '.join(sorted(unknown))}")
        methods = [m for m in study["method"] if not args.only or m["name"] in args.only]
        try:
            signal.signal(signal.SIGTERM, runs.stop)
            runs.run([], 1)  # the table's own teacher, if it has one
            runs.store_teacher(methods)
            runs.run(methods, args.jobs)
        except RuntimeError as error:
            print(table(runs))
            sys.exit(str(error))
    print(table(runs))


if __name__ == "__main__":
    main()
