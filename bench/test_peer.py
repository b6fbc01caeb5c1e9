"""The peer on a small pair: every mode without compilation gives the same losses, and the protocol holds over a
pipe."""

import contextlib
import io
import json
import math
import sys
import tempfile
import time
import unittest
from pathlib import Path

import torch
from safetensors.torch import load_file

import compare
import methods
import networks
import pairs
import peer
import prepare

SMALL = pairs.PAIRS[-1]


class Peer(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        torch.set_num_threads(1)

    def job(self, method, **changes):
        return prepare.job(SMALL, method, self.folder, batch=4, classes=10) | dict(mode="tuned") | changes

    def test_eager_modes_agree_and_losses_move(self):
        for method in pairs.METHODS:
            with self.subTest(method=method):
                job = self.job(method)
                losses = {
                    mode: peer.Step(job | dict(mode=mode)).run(3)[1] for mode in ("tuned", "contiguous", "shipped")
                }
                for other in ("contiguous", "shipped"):
                    compare.check_losses("small", method, "fp32", losses[other], losses["tuned"])
                still = peer.Step(job | dict(optimizer=job["optimizer"] | dict(lr=0.0))).run(3)[1]
                self.assertAlmostEqual(losses["tuned"][0], still[0], places=5)
                self.assertGreater(
                    max(abs(a / b - 1) for a, b in zip(losses["tuned"], still)), compare.TOLERANCE["fp32"]
                )

    def test_bf16_stays_near_fp32(self):
        job = self.job("kd")
        losses = [peer.Step(job | dict(precision=precision)).run(2)[1] for precision in ("fp32", "bf16")]
        self.assertNotEqual(*losses)
        for a, b in zip(*losses):
            self.assertLess(abs(a / b - 1), compare.TOLERANCE["bf16"])
        with self.assertRaisesRegex(ValueError, "fp32 only"):
            peer.Step(job | dict(precision="bf16", mode="shipped"))

    def test_the_protocol_over_a_pipe(self):
        command = [sys.executable, str(Path(peer.__file__))]
        with compare.Side("peer", command, self.job("uhkd", threads=1), compare.peer_environment()) as side:
            self.assertGreater(side.startup_s, 0.0)
            self.assertEqual(len(side.steps(2)), 2)
            self.assertEqual(len(side.losses), 3)
            self.assertTrue(all(map(math.isfinite, side.losses)))
            self.assertGreater(side.rss_mb, 100.0)
            self.assertIsNone(side.cuda_mb)
            before = side.cpu_s()
            time.sleep(1.0)
            self.assertLess(side.cpu_s() - before, compare.IDLE_SHARE)
            process = side.process
        self.assertEqual(process.returncode, 0)

    def test_a_job_that_cannot_be_done_is_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "defaults only"):
            peer.Step(self.job("kd", method_options=dict(temperature=4.0)))
        with self.assertRaisesRegex(ValueError, "no mode fastest"):
            peer.Step(self.job("kd", mode="fastest"))
        job = self.job("kd")
        job["student"]["weights"] = job["teacher"]["weights"]
        with self.assertRaisesRegex(ValueError, "missing .*layer4"):
            peer.Step(job)

    def test_names_and_decay_of_heads(self):
        job = self.job("lfcc")
        names = set(load_file(job["heads"]))
        self.assertLessEqual(
            {"lfcc.level1.scale4.theta", "lfcc.level4.scale2.project.weight", "lfcc.level2.scale1.norm.running_var"},
            names,
        )
        self.assertFalse([name for name in names if name.endswith("num_batches_tracked")])
        decay, plain = (group["params"] for group in peer.Step(job).optimizer.param_groups)
        self.assertTrue(all(p.dim() >= 2 for p in decay))
        self.assertEqual(sum(p.dim() == 3 for p in plain), 12)
        self.assertIsNone(self.job("kd")["heads"])


class Taps(unittest.TestCase):
    def test_logits_are_timms_and_stages_have_the_shapes_that_heads_are_built_for(self):
        for pair in pairs.PAIRS:
            for network in (pair.teacher, pair.student):
                with self.subTest(model=network.model, img=pair.img), torch.no_grad():
                    net = networks.create(network.model, pair.img, 7, network.options).eval()
                    x = torch.randn(1, 3, pair.img, pair.img)
                    logits, embedding, maps = networks.Tapped(net, True)(x)
                    torch.testing.assert_close(logits, net(x))
                    self.assertEqual(embedding.shape, (1, net.num_features))
                    for map_, stage in zip(map(methods.as_map, maps), networks.stages(net, pair.img), strict=True):
                        self.assertEqual(tuple(map_.shape), (1, stage.channels, *stage.grid))
                    self.assertEqual(networks.Tapped(net, False)(x)[2], [])

    def test_depths_of_a_sequence(self):
        self.assertEqual(networks.tap_depths(12), (2, 4, 10, 12))
        self.assertEqual(networks.tap_depths(4), (1, 2, 3, 4))


class WholeRun(unittest.TestCase):
    def test_the_peer_against_itself(self):
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "bench.json"
            stand_in = f"{sys.executable} {peer.__file__}"
            command = "--quick --pair @32 --method kd --precision fp32 --batch 4 --threads 1".split()
            command += ["--results", str(results), "--shipped"]
            with contextlib.redirect_stdout(io.StringIO()) as out:
                compare.run(compare.parse([*command, "--ours", stand_in]))
            (record,) = json.loads(results.read_text())
            self.assertIn("geometric mean", out.getvalue())
            self.assertIn(record["peer_mode"], compare.EAGER)
            self.assertGreater(record["ratio_median"], 0.2)
            self.assertLess(record["ratio_median"], 5.0)
            self.assertIn("shipped_ratio", record)
            table = results.with_suffix(".md").read_text()
            self.assertIn("vit_tiny_patch16_224->resnet18@32 | kd | fp32 | cpu | 4 |", table)
            self.assertIn("- versions: torch", table)


if __name__ == "__main__":
    unittest.main()
