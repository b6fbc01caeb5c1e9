"""The runner of the results, with a program that only writes what a run would."""

import json
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

if sys.version_info >= (3, 11):
    import results

# Held-out accuracy grows with the weight up to 2.7 and with the rate; an interruption and a failure on request.
FAKE = """#!{python}
import json, pathlib, sys, time
words = sys.argv[1:]
if words[0] == "cache":
    with open(pathlib.Path(__file__).parent / "passes", "a") as passes:
        passes.write(json.dumps(words) + "\\n")
    sys.exit()
run = pathlib.Path(words[words.index("--out" if "--out" in words else "--resume") + 1])
if "--out" in words:
    sets = dict(s.split("=", 1) for s in words[words.index("--out") + 2 :] if s != "--set")
else:
    sets = json.loads((run / "plan").read_text())
run.mkdir(parents=True, exist_ok=True)
(run / "plan").write_text(json.dumps(sets))
with open(run.parents[1] / "calls", "a") as calls:
    calls.write(json.dumps(words) + "\\n")
if (run.parents[1] / "hang").exists():
    time.sleep(60)
if (run.parents[1] / "fail").exists():
    sys.exit("error: told to fail")
weight, rate, seed = float(sets.get("methods.kd.weight", 0)), float(sets["optim.lr"]), int(sets["seed"])
top1 = 50 + weight + 10 * rate + seed / 10
lines = [{{"split": "validation", "top1": top1}}]
if sets["train.test"] == "last":
    lines.append({{"split": "test", "top1": top1 - 1}})
(run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
summary = {{"seconds": 2.0, "images_per_second": 9.0, "precision": "fp32", "versions": {{}}}}
(run / "summary.json").write_text(json.dumps(summary))
"""

STUDY = """
common = ["teacher.img=8", "train.batch=2", "teacher.cache.views=2"]
trial = ["train.test=never"]
final = ["train.test=last"]
trial_seed = 7
seeds = [1, 2, 3]
factors = [1.0, 0.3, 3.0]
rates = [0.1, 0.2]
bare_rates = [0.05, 0.1, 0.2, 0.4]
against = ["scratch"]
[[method]]
name = "scratch"
command = "train"
recipe = "recipes/cifar100/scratch.toml"
[[method]]
name = "kd"
recipe = "recipes/cifar100/kd.toml"
sets = ["methods.kd.temperature=2"]
weight = "methods.kd.weight"
default = 0.9
"""


@unittest.skipIf(sys.version_info < (3, 11), "needs Python 3.11")
class Results(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        root = Path(self.folder.name)
        self.binary = root / "heterodyne"
        self.binary.write_text(FAKE.format(python=sys.executable))
        self.binary.chmod(self.binary.stat().st_mode | stat.S_IXUSR)
        self.study, self.work = root / "table.toml", root / "work"
        self.study.write_text(STUDY)

    def command(self):
        program = ["--binary", str(self.binary), "--commit", "abc1234"]
        return ["results.py", str(self.study), "--work", str(self.work), *program, "--jobs", "2"]

    def run_all(self):
        sys.argv = self.command()
        results.main()
        return [json.loads(line) for line in (self.work / "calls").read_text().splitlines()]

    def test_every_method_has_as_many_trials_and_the_best_goes_on(self):
        calls = self.run_all()
        trials = [c for c in calls if "train.test=never" in c]
        finals = [c for c in calls if "train.test=last" in c]
        for command in ("train", "distill"):
            self.assertEqual(sum(c[0] == command for c in trials), 4)
            self.assertEqual(sum(c[0] == command for c in finals), 3)
        self.assertTrue(all("seed=7" in c for c in trials))
        self.assertEqual({c[-1] for c in finals}, {"seed=1", "seed=2", "seed=3"})
        self.assertTrue(all("methods.kd.weight=2.7" in c and "optim.lr=0.2" in c for c in finals if c[0] == "distill"))
        self.assertTrue(all("optim.lr=0.4" in c for c in finals if c[0] == "train"))
        self.assertFalse(any(part.startswith("teacher.") for c in calls if c[0] == "train" for part in c))
        kept = json.loads((self.study.parent / "table" / "kd" / "final-lr0.2-w2.7-seed2.json").read_text())
        self.assertAlmostEqual(kept["test"], 53.9)
        self.assertEqual((kept["test_evaluations"], kept["train_seconds"]), (1, 2.0))
        self.assertEqual(kept["commit"], "abc1234")
        self.assertIn("--set optim.lr=0.2", kept["command"])
        trial = json.loads((self.study.parent / "table" / "kd" / "trial-lr0.1-w0.9.json").read_text())
        self.assertIsNone(trial["test"])

    def test_what_is_there_is_not_run_again_and_the_table_shows_it(self):
        first = len(self.run_all())
        self.assertEqual(len(self.run_all()), first)
        study = results.load(self.study)
        text = results.table(results.Runs(self.study, study, self.work, self.binary))
        # Three seeds, 0.1 apart: 4.303 * 0.1 / sqrt(3); the differences are all alike.
        self.assertIn("| kd | 2.7, 0.2 | 53.90 ± 0.25 (3) | +0.70 ± 0.00 | 2 | 9 |", text)
        self.assertIn("| kd/final-lr0.2-w2.7-seed1 |", text)

    def test_the_teacher_passes_once_before_the_runs(self):
        self.run_all()
        self.run_all()
        (words,) = [json.loads(line) for line in (self.study.parent / "passes").read_text().splitlines()]
        self.assertEqual(words[:2], ["cache", "recipes/cifar100/kd.toml"])
        self.assertEqual([w for w in words if w.endswith(".toml")], words[1:2])
        for setting in ("teacher.cache.views=2", "methods.kd.temperature=2", "threads=0"):
            self.assertIn(setting, words)

    def test_a_failed_run_names_itself_and_the_rest_is_kept(self):
        self.work.mkdir()
        (self.work / "fail").write_text("")
        with self.assertRaises(SystemExit) as caught:
            self.run_all()
        self.assertIn("told to fail", str(caught.exception))
        (self.work / "fail").unlink()
        calls = self.run_all()
        # What was interrupted is resumed, and what is kept says all the same how to make it anywhere.
        self.assertTrue(any("--resume" in c for c in calls))
        for kept in (self.study.parent / "table").rglob("*.json"):
            command = json.loads(kept.read_text())["command"]
            self.assertIn(" --set optim.lr=", command)
            self.assertNotIn("--resume", command)
            self.assertNotIn(str(self.work), command)

    def test_another_table_takes_the_choices_and_adds_to_the_settings(self):
        other = self.study.parent / "few.toml"
        other.write_text(
            """
choices = "table.toml"
common = ["data.per_class=5"]
seeds = [4]
against = ["kd"]
[[method]]
name = "kd"
[[method]]
name = "warm"
like = "kd"
sets = ["methods.kd.temperature=9"]
"""
        )
        study = results.load(other)
        runs = results.Runs(other, study, self.work / "few", self.binary)
        runs.run(study["method"], 1)
        self.assertFalse(runs.kept.exists(), "nothing starts before the other table has chosen")
        self.run_all()
        runs.run(study["method"], 2)
        kept = sorted(str(path.relative_to(runs.kept)) for path in runs.kept.rglob("*.json"))
        self.assertEqual(kept, ["kd/final-lr0.2-w2.7-seed4.json", "warm/final-lr0.2-w2.7-seed4.json"])
        words = json.loads((runs.kept / kept[1]).read_text())["command"].split()
        self.assertLess(words.index("methods.kd.temperature=2"), words.index("methods.kd.temperature=9"))
        self.assertIn("data.per_class=5", words)
        self.assertIn("train.batch=2", words)
        other.write_text(other.read_text().replace('like = "kd"', 'like = "kb"'))
        with self.assertRaises(SystemExit) as caught:
            results.load(other)
        self.assertIn("no method kb", str(caught.exception))

    def test_a_table_trains_its_own_teacher_and_tries_nothing_where_there_is_no_choice(self):
        text = STUDY.replace("factors = [1.0, 0.3, 3.0]", "factors = [1.0]")
        text = text.replace("\nrates = [0.1, 0.2]", "\nrates = [0.1]")
        text = text.replace("bare_rates = [0.05, 0.1, 0.2, 0.4]", "bare_rates = [0.1]")
        text = text.replace("trial_seed = 7\n", "").replace('trial = ["train.test=never"]\n', "")
        text += """
[teacher]
recipe = "recipes/cifar100/scratch.toml"
sets = ["student.model=vit_nano"]
rate = 0.3
seed = 5
"""
        self.study.write_text(text.replace("common = [", 'common = ["student.model=resnet8", "optim.name=sgd", '))
        calls = self.run_all()
        self.assertEqual([c[0] for c in calls].count("distill"), 3)
        self.assertFalse([c for c in calls if "train.test=never" in c])
        self.assertIn("student.model=vit_nano", calls[0])
        self.assertIn("optim.lr=0.3", calls[0])
        self.assertFalse({"student.model=resnet8", "optim.name=sgd"} & set(calls[0]))
        teacher = self.work / "teacher" / "final-lr0.3-seed5"
        for call in calls:
            self.assertEqual(f"teacher.weights={teacher}" in call, call[0] == "distill")
        kept = (self.study.parent / "table" / "kd" / "final-lr0.1-w0.9-seed1.json").read_text()
        self.assertIn("teacher.weights=runs/table/teacher/final-lr0.3-seed5", json.loads(kept)["command"])
        study = results.load(self.study)
        runs = results.Runs(self.study, study, self.work, self.binary)
        self.assertIn("The teacher: 52.50 %", results.table(runs))

    def test_a_free_job_takes_the_next_method(self):
        study = results.load(self.study)
        runs = results.Runs(self.study, study, self.work, self.binary)
        kd, scratch = reversed(study["method"])
        started = []
        for _ in range(5):
            started.append(runs.next([kd, scratch], started))
        self.assertEqual([run[0]["name"] for run in started], ["kd"] * 3 + ["scratch"] * 2)
        for run in started[:3]:
            runs.execute(*run)
        # What depends on the finished ones comes before the other method's remaining runs.
        self.assertEqual(runs.next([kd, scratch], started[3:])[0]["name"], "kd")

    def test_a_signal_ends_the_runs_too(self):
        self.work.mkdir()
        (self.work / "hang").write_text("")
        driver = subprocess.Popen([sys.executable, *self.command()], cwd=results.ROOT / "tools", stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        calls = self.work / "calls"
        while not calls.exists() or len(calls.read_text().splitlines()) < 2:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        driver.send_signal(signal.SIGTERM)
        _, error = driver.communicate(timeout=30)
        self.assertIn(b"stopped; the same command continues", error)
        self.assertEqual(len(calls.read_text().splitlines()), 2)
        self.assertFalse(list((self.study.parent / "table").rglob("*.json")))

    def test_tables_that_make_no_sense_are_refused(self):
        for old, new in [
            ("seeds = [1, 2, 3]\n", ""),
            ("kd.toml", "kb.toml"),
            ("default = 0.9\n", ""),
            ("0.2, 0.4]", "0.2]"),
            ('name = "kd"', 'name = "teacher"'),
            ('against = ["scratch"]', 'against = ["alone"]'),
        ]:
            self.study.write_text(STUDY.replace(old, new))
            with self.assertRaises(SystemExit):
                results.load(self.study)


if __name__ == "__main__":
    unittest.main()
