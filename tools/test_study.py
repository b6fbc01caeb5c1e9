"""The study tool on a stand-in for the binary, which writes what a run leaves behind."""

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

SCRIPT = Path(__file__).with_name("study.py")
# Accuracy: 50 + seed, one more for a variant that sets `k`; fails where `bad` is set.
FAKE = """\
#!/usr/bin/env python3
import json, sys
from pathlib import Path
words = sys.argv[1:]
with open("calls.txt", "a") as log:
    log.write(" ".join(words) + "\\n")
if any("bad" in w for w in words):
    sys.exit("error: bad is no key")
if "--resume" in words:
    run, seed, more = Path(words[words.index("--resume") + 1]), 1, 0
else:
    run = Path(words[words.index("--out") + 1])
    seed = int(next(w for w in words if w.startswith("seed="))[5:])
    more = sum(w.startswith("methods.x.k=") for w in words)
run.mkdir(parents=True, exist_ok=True)
lines = [{"split": "validation", "top1": 40 + seed - more}, {"split": "test", "top1": 50 + seed + more}]
(run / "metrics.jsonl").write_text("\\n".join(json.dumps(x) for x in lines))
(run / "summary.json").write_text(json.dumps({"status": "finished", "last": {"top1": 50 + seed + more}}))
"""
STUDY = """\
[[group]]
recipe = "one.toml"
variants = ["", "methods.x.k=3, methods.x.level=[4]"]
"""


@unittest.skipIf(sys.version_info < (3, 11), "needs Python 3.11")
class Study(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        binary = self.folder / "fake"
        binary.write_text(FAKE)
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)

    def run_study(self, text, *words):
        (self.folder / "study.toml").write_text(textwrap.dedent(text))
        command = [
            sys.executable,
            str(SCRIPT),
            "study.toml",
            "--out",
            "out",
            "--binary",
            str(self.folder / "fake"),
            *words,
        ]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"}
        )

    def calls(self):
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def test_every_variant_runs_with_every_seed_once_and_the_table_compares_them(self):
        done = self.run_study(STUDY, "--seeds", "1", "2", "--jobs", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("| one | 41.50 ± 0.71 | 51.50 ± 0.71 |  |  |", done.stdout)
        self.assertIn(
            "| one, `x.k=3, x.level=[4]` | 40.50 ± 0.71 | 52.50 ± 0.71 | -1.00 (-1.00, -1.00) | +1.00 (+1.00, +1.00) |",
            done.stdout,
        )
        calls = self.calls()
        self.assertEqual(len(calls), 4)
        self.assertTrue(
            any(c.endswith("--set seed=2 --set methods.x.k=3 --set methods.x.level=[4]") for c in calls), calls
        )
        again = self.run_study(STUDY, "--seeds", "1", "2")
        self.assertEqual((again.stdout, len(self.calls())), (done.stdout, 4))

    def test_a_run_that_was_interrupted_continues_and_one_that_was_killed_begins_again(self):
        interrupted = self.folder / "out/one/default/seed1"
        (interrupted / "checkpoint").mkdir(parents=True)
        (interrupted / "checkpoint/state.safetensors").touch()
        killed = self.folder / "out/one/x.k_3__x.level__4_/seed1"
        killed.mkdir(parents=True)
        (killed / "plan.json").touch()
        done = self.run_study(STUDY, "--seeds", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("distill --resume out/one/default/seed1", self.calls())
        self.assertFalse((killed / "plan.json").exists())

    def test_a_run_that_fails_is_named_and_the_others_are_shown(self):
        done = self.run_study('[[group]]\nrecipe = "one.toml"\nvariants = ["", "methods.x.bad=1"]', "--seeds", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("x.bad_1/seed1: exit status 1", done.stderr)
        self.assertIn("bad is no key", done.stderr)
        self.assertIn("| one | 41.00 | 51.00 |  |  |", done.stdout)
        self.assertIn("not run", done.stdout)

    def test_a_table_alone_runs_nothing(self):
        done = self.run_study(STUDY, "--table")
        self.assertEqual((done.returncode, self.calls()), (0, []))
        self.assertEqual(done.stdout.count("not run"), 2)

    def test_what_is_no_study_is_refused(self):
        for text, part in [
            ("", "'group' is missing"),
            ("[[group]]\nvariants = ['']", "'recipe' is missing"),
            ("[[group]]\nrecipe = 'a.toml'\nvariants = ['k=1', 'k=1']", "is listed twice"),
            ("[[group]]\nrecipe = 'a.toml'\nvariants = []", "a list of texts"),
            ("group = 1", "[[group]]"),
            ("[[group", "study.toml"),
        ]:
            done = self.run_study(text)
            self.assertEqual(done.returncode, 1, text)
            self.assertIn(part, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


@unittest.skipIf(sys.version_info < (3, 11), "needs Python 3.11")
class Shipped(unittest.TestCase):
    def test_the_shipped_studies_name_recipes_that_are_there(self):
        sys.path.insert(0, str(SCRIPT.parent))
        self.addCleanup(sys.path.pop, 0)
        import study

        for path in sorted((SCRIPT.parent / "studies").glob("*.toml")):
            for _, recipe, _ in study.groups(path):
                self.assertTrue((SCRIPT.parent.parent / recipe).is_file(), f"{path}: {recipe}")


if __name__ == "__main__":
    unittest.main()
