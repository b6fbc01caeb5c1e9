"""What the libtorch step says and leaves behind when something is wrong; no network is used."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).parent.parent
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}


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
        keep = {k: v for k, v in os.environ.items() if k not in ("LIBTORCH", "CUDA") and not k.startswith("PIP_")}
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

    def with_driver(self, version):
        """The environment of a machine whose nvidia-smi states a driver; without a network."""
        if any(Path(path).exists() for path in ["/sys/module/nvidia/version", "/proc/driver/nvidia/version"]):
            self.skipTest("this machine has an NVIDIA driver of its own")
        tool = self.project / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\necho {version}\n")
        tool.chmod(0o755)
        path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
        return {**NO_NETWORK, "PATH": path}

    def test_an_old_driver_is_refused_before_anything_is_downloaded(self):
        old = self.with_driver("535.104.05")
        self.refused(self.run_step(**old), "driver is 535.104.05", "580 or newer", "Nothing was downloaded", "CUDA=0")
        # Without the GPU it goes on, to the download.
        self.refused(self.run_step(CUDA="0", **old), "Without a network")
        self.refused(self.run_step(CUDA="yes", **old), "neither 0 nor 1")

    def test_cuda_is_fetched_where_a_driver_or_the_user_asks_for_it(self):
        size = "with the CUDA libraries"
        self.assertIn(size, self.run_step(**self.with_driver("580.65.06")).stdout)
        self.assertIn(size, self.run_step(CUDA="1", **NO_NETWORK).stdout)
        self.assertNotIn(size, self.run_step(**NO_NETWORK).stdout)
        self.assertNotIn(size, self.run_step(CUDA="0", **self.with_driver("580.65.06")).stdout)

    def test_a_link_for_cpus_only_does_not_stick_once_there_is_a_driver(self):
        root = self.fake("mine", "2.11.0+cpu")
        self.assertEqual(self.run_step(LIBTORCH=str(root)).returncode, 0)
        new = self.with_driver("580.65.06")
        result = self.run_step(**new)
        self.assertIn("for CPUs only", result.stdout)
        self.refused(result, "Without a network")
        # The user's word counts, and a failed download leaves the link.
        self.assertEqual(self.run_step(CUDA="0", **new).returncode, 0)
        self.assertEqual(self.run_step(LIBTORCH=str(root), **new).returncode, 0)
        self.refused(self.run_step(LIBTORCH=str(root), CUDA="1"), "for CPUs only")
        (root / "lib" / "libtorch_cuda.so").touch()
        self.assertEqual(self.run_step(**new).returncode, 0)

    def test_without_pip_it_says_so(self):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.project / "bare")], check=True)
        self.refused(self.run_step(python=str(self.project / "bare" / "bin" / "python")), "pip is missing")

    def test_without_a_network_it_says_so_and_leaves_nothing_behind(self):
        self.refused(self.run_step(**NO_NETWORK), "Without a network")
        self.assertFalse((self.project / ".libtorch").exists())


if __name__ == "__main__":
    unittest.main()
