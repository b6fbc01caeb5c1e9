"""The driver against stand-ins for both processes that need no PyTorch."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import compare

# Speaks the protocol; its arguments say how it (mis)behaves.
STAND_IN = """
import json, sys, threading, time
how = json.loads(sys.argv[1])
job = json.loads(sys.stdin.readline())
mode = job.get("mode", "ours")
if mode in how.get("die", []):
    sys.stderr.write("Traceback\\nRuntimeError: out of luck\\n")
    sys.exit(3)
def spin():
    while True:
        pass
if how.get("spin"):
    threading.Thread(target=spin, daemon=True).start()
loss, count = how.get("loss", 2.0), 0
if how.get("silent"):
    time.sleep(60)
print(json.dumps(dict(ready=True, startup_s=how.get("startup_s", 1.0), loss=loss)), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request.get("quit"):
        break
    n = request["steps"]
    if how.get("garbage"):
        print("hello", flush=True)
    time.sleep(how.get("sleep", 0.0))
    ms = [how.get("ms", {}).get(mode, 10.0)] * n
    print(json.dumps(dict(ms=ms, losses=[loss] * n, rss_mb=how.get("rss_mb", 100.0), cuda_mb=None)), flush=True)
"""
JOB = dict(device="cpu", batch=4, student=dict(img=32), threads=1)
LABEL = ("a->b", "kd", "fp32")


class Arguments:
    quick, eager, pairs_of_runs, steps, shipped, cpu_level = False, False, 5, 2, False, "native"
    graph = False


class Driver(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.script = Path(folder.name) / "stand_in.py"
        self.script.write_text(STAND_IN)

    def command(self, **how):
        return [sys.executable, str(self.script), json.dumps(how)]

    def runner(self, ours=None, **peer):
        return compare.Runner(self.command(**peer), self.command(**(ours or {})))

    def measure(self, runner, arguments=Arguments, label=LABEL):
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(self.stdout), contextlib.redirect_stderr(self.stderr):
            return compare.measure(runner, JOB, label, arguments)

    def refused(self, *parts, **call):
        with self.assertRaises(compare.BenchError) as raised:
            self.measure(**call)
        for part in parts:
            self.assertIn(part, str(raised.exception))

    def test_the_fastest_mode_is_measured_and_ratios_point_the_right_way(self):
        peer_ms = dict(tuned=30.0, contiguous=40.0, compiled=20.0, frozen=25.0, shipped=50.0)
        arguments = mock.Mock(quick=False, eager=False, pairs_of_runs=5, steps=2, shipped=True, graph=False)
        record = self.measure(
            self.runner(ours=dict(ms=dict(tuned=10.0), rss_mb=60.0, startup_s=0.5), ms=peer_ms), arguments
        )
        self.assertEqual((record["peer_mode"], record["peer_ms"], record["ours_ms"]), ("compiled", 20.0, 10.0))
        self.assertEqual([record[f"ratio_{x}"] for x in ("median", "min", "max")], [2.0, 2.0, 2.0])
        self.assertEqual((record["rss_ratio"], record["startup_ratio"], record["shipped_ratio"]), (0.6, 0.5, 5.0))
        self.assertIn("2.00x", compare.line(record))
        self.assertIn("5.00x against PyTorch as shipped", compare.line(record))
        self.assertIn("| 2.00 | 2.00..2.00 | 5.00 | 0.60 |", compare.markdown([record]))

    def test_no_compiled_mode_is_tried_where_none_is_wanted(self):
        peer_ms = dict(tuned=30.0, contiguous=40.0, compiled=20.0)
        record = self.measure(
            self.runner(ms=peer_ms),
            mock.Mock(quick=False, eager=True, pairs_of_runs=5, steps=1, shipped=False, graph=False),
        )
        self.assertEqual(record["peer_mode"], "tuned")

    def test_graphs_are_tried_on_a_gpu_alone(self):
        self.assertIn("graphed", compare.candidates("cuda", eager=False))
        self.assertNotIn("graphed", compare.candidates("cpu", eager=False))

    def test_a_mode_that_does_not_compile_is_left_out(self):
        record = self.measure(self.runner(die=["compiled", "frozen"]))
        self.assertEqual(set(record["peer_trial_ms"]), {"tuned", "contiguous"})
        self.assertIn("compiled is left out: PyTorch (compiled) ended with status 3", self.stderr.getvalue())

    def test_a_process_that_dies_shows_its_last_lines(self):
        self.refused(
            "PyTorch (tuned) ended with status 3", "RuntimeError: out of luck", runner=self.runner(die=["tuned"])
        )
        self.refused(
            "stand-in ended with status 3", "RuntimeError: out of luck", runner=self.runner(ours=dict(die=["tuned"]))
        )

    def test_losses_that_differ_name_pair_and_values(self):
        runner = self.runner(ours=dict(loss=2.01))
        self.refused("a->b kd fp32", "step 1", "2.01", "peer's 2", runner=runner)
        self.measure(runner, label=("a->b", "kd", "bf16"))
        self.refused("a->b kd bf16", runner=self.runner(ours=dict(loss=2.1)), label=("a->b", "kd", "bf16"))

    def test_a_loss_that_is_not_finite_is_refused(self):
        self.refused("not finite", runner=self.runner(loss=float("nan")))

    def test_a_process_that_computes_while_it_waits_is_refused(self):
        self.refused("of processor time while it waited", runner=self.runner(ours=dict(spin=True), sleep=0.3))

    @unittest.skipUnless(Path("/proc").exists(), "reads the environment of a process in /proc")
    def test_both_sides_are_held_to_the_level(self):
        for level, wanted in ((compare.NATIVE, {}), ("avx2", compare.CPU_LEVELS["avx2"])):
            runner = compare.Runner(self.command(), self.command(), level)
            for start in (runner.ours, lambda job: runner.peer(job, "tuned"), lambda job: runner.peer(job, "shipped")):
                with start(JOB) as side:
                    lines = Path(f"/proc/{side.process.pid}/environ").read_text().split("\0")
                held = dict(line.split("=", 1) for line in lines if "=" in line)
                for name in compare.CPU_LEVELS["avx2"]:
                    self.assertEqual(held.get(name), wanted.get(name, os.environ.get(name)), name)

    def test_an_answer_outside_the_protocol_is_refused(self):
        self.refused("not JSON", "hello", runner=self.runner(ours=dict(garbage=True)))

    def test_a_process_that_says_nothing_is_ended(self):
        with self.assertRaisesRegex(compare.BenchError, "has not answered for 0 s|has not answered for 1 s"):
            compare.Side("x", self.command(silent=True), JOB, dict(os.environ), ready_timeout=0.5)

    def test_a_command_that_does_not_start_is_named(self):
        with self.assertRaisesRegex(compare.BenchError, "x does not start: no/such: No such file"):
            compare.Side("x", ["no/such"], JOB, dict(os.environ))


class Results(unittest.TestCase):
    def record(self, **changes):
        return (
            dict(pair="a->b", method="kd", precision="fp32", device="cpu", cpu_level="native", ratio_median=1.5)
            | dict(graph=False)
            | changes
        )

    def test_a_narrowed_run_replaces_its_own_results_only(self):
        old = [self.record(), self.record(method="hcd"), self.record(precision="bf16")]
        others = [self.record(device="cuda"), self.record(cpu_level="avx2"), self.record(graph=True)]
        new = [self.record(method="hcd", ratio_median=2.0), *others]
        self.assertEqual(compare.merge(old, new), [old[0], new[0], old[2], *new[1:]])

    def test_the_summary_is_a_geometric_mean(self):
        records = [
            self.record(ratio_median=1.0),
            self.record(method="hcd", ratio_median=4.0),
            self.record(precision="bf16", ratio_median=3.0),
        ]
        self.assertEqual(
            compare.summary(records),
            [
                "cpu bf16: geometric mean 3.00x, smallest 3.00x, 1 configurations",
                "cpu fp32: geometric mean 2.00x, smallest 1.00x, 2 configurations",
            ],
        )

    def test_a_broken_results_file_is_not_overwritten(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.json"
            self.assertEqual(compare.read_results(path), [])
            path.write_text("{")
            with self.assertRaisesRegex(compare.BenchError, "not a list of results"):
                compare.read_results(path)


class CommandLine(unittest.TestCase):
    def refused(self, *command):
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), self.assertRaises(SystemExit):
            compare.parse(list(command))
        return stderr.getvalue()

    def test_pairs_are_chosen_by_a_part_of_their_name(self):
        names = [pair.name for pair in compare.parse(["--pair", "swin", "--pair", "@32"]).pair_rows]
        self.assertEqual(names, ["swin_tiny_patch4_window7_224->resnet18", "vit_tiny_patch16_224->resnet18@32"])

    def test_what_cannot_be_measured_is_refused(self):
        self.assertIn("no pair has nothing in its name", self.refused("--pair", "nothing"))
        self.assertIn("at least 5", self.refused("--pairs-of-runs", "4"))
        self.assertIn("invalid choice", self.refused("--method", "crd"))
        self.assertIn("--batch at least 2", self.refused("--batch", "1"))

    def test_a_missing_package_and_a_missing_binary_say_what_to_do(self):
        with mock.patch("importlib.metadata.version", side_effect=compare.importlib.metadata.PackageNotFoundError):
            with self.assertRaisesRegex(
                compare.BenchError, "torch is missing: .* -m pip install -r bench/requirements.txt"
            ):
                compare.required_versions()
        with self.assertRaisesRegex(compare.BenchError, "no/binary is missing: make build"):
            compare.known_models(Path("no/binary"))


if __name__ == "__main__":
    unittest.main()
