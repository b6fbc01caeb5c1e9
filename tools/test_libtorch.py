"""What the libtorch step says and leaves behind when something is wrong; no network is used."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Libtorch(unittest.TestCase):
    def setUp(self):
        self.project = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.project)
        (self.project / "tools").mkdir()
        (self.project / "crates" / "shim").mkdir(parents=True)
        for name in ["tools/libtorch.py", "crates/shim/libtorch-version"]:
            shutil.copy(ROOT / name, self.project / name)

    def fake(self, name, version, whole=True):
        root = self.project / name
        (root / "lib").mkdir(parents=True)
        (root / "include" / "ATen").mkdir(parents=True)
        (root / "version.py").write_text(f"__version__ = '{version}'\n")
        if whole:
            (root / "lib" / "libtorch_cpu.so").touch()
            (root / "include" / "ATen" / "ATen.h").touch()
        return root

    def run_step(self, python=sys.executable, **environment):
        keep = {k: v for k, v in os.environ.items() if k != "LIBTORCH" and not k.startswith("PIP_")}
        return subprocess.run(
            [python, "tools/libtorch.py"],
            cwd=self.project,
            env={**keep, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def refused(self, result, *parts):
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_the_right_version_is_linked_and_kept(self):
        root = self.fake("mine", "2.11.0+cpu")
        for _ in range(2):
            self.assertEqual(self.run_step(LIBTORCH=str(root)).returncode, 0)
            self.assertEqual((self.project / ".libtorch" / "torch").resolve(), root.resolve())
        # Without the variable the link stays in use.
        self.assertEqual(self.run_step().returncode, 0)

    def test_a_wrong_version_is_refused_and_what_was_there_stays(self):
        self.run_step(LIBTORCH=str(self.fake("mine", "2.11.0")))
        self.refused(
            self.run_step(LIBTORCH=str(self.fake("old", "2.9.1+cu128"))), "holds version 2.9.1+cu128; 2.11.0 is needed"
        )
        self.assertEqual((self.project / ".libtorch" / "torch").resolve(), (self.project / "mine").resolve())

    def test_a_folder_without_libtorch_or_with_half_of_it_is_refused(self):
        self.refused(self.run_step(LIBTORCH=str(self.project)), "holds no libtorch")
        self.refused(self.run_step(LIBTORCH=str(self.fake("half", "2.11.0", whole=False))), "is incomplete")

    def test_without_pip_it_says_so(self):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.project / "bare")], check=True)
        self.refused(self.run_step(python=str(self.project / "bare" / "bin" / "python")), "pip is missing")

    def test_without_a_network_it_says_so_and_leaves_nothing_behind(self):
        self.refused(
            self.run_step(PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="0", PIP_CONFIG_FILE=os.devnull),
            "Without a network",
        )
        self.assertFalse((self.project / ".libtorch").exists())


if __name__ == "__main__":
    unittest.main()
