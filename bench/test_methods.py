"""The peer's methods against the golden values of crates/methods, which come from the papers' formulas in float64."""

import json
import math
import unittest
from pathlib import Path

import torch
from safetensors import safe_open

import methods
import networks

GOLDENS = Path(__file__).resolve().parents[1] / "crates" / "methods" / "tests" / "goldens" / "methods.safetensors"


def fill(name, shape):
    """The goldens' formula for a learnable weight."""
    salt = 0.1 * sum(name.encode())
    return torch.tensor([0.4 * math.sin(1.3 * i + salt) for i in range(math.prod(shape))]).reshape(shape)


class Methods(unittest.TestCase):
    def setUp(self):
        torch.set_default_dtype(torch.float64)
        self.addCleanup(torch.set_default_dtype, torch.float32)

    def side(self, file, pair, name, specs, requires_grad):
        raw = {
            f"{name}.stage{i}": file.get_tensor(f"{pair}/{name}.stage{i}").requires_grad_(requires_grad)
            for i in methods.LEVELS
        }
        logits = file.get_tensor(f"{pair}/{name}.logits").requires_grad_(requires_grad)
        embedding = file.get_tensor(f"{pair}/{name}.embedding") if name == "teacher" else None
        places = lambda x, s: networks.fold(x, s["prefix"], s["grid"]) if s["kind"] == "tokens" else x
        maps = [
            (places(x, s), x[:, : s["prefix"]]) if s.get("prefix") else places(x, s)
            for x, s in zip(raw.values(), specs)
        ]
        return (logits, embedding, maps), raw | {f"{name}.logits": logits}

    def check(self, file, case, pair, classes):
        stages = {
            side: [
                networks.Stage(s["channels"], tuple(s["grid"]), s["kind"] == "tokens", s.get("prefix", 0) > 0)
                for s in pair[side]
            ]
            for side in ("student", "teacher")
        }
        method = methods.build(
            case["method"], methods.Spec(stages["student"], stages["teacher"], pair["d_s"], pair["d_t"], classes)
        )
        for name, p in method.named_parameters():
            p.data = fill(name, p.shape)
        student, raw = self.side(file, case["pair"], "student", pair["student"], True)
        teacher, _ = self.side(file, case["pair"], "teacher", pair["teacher"], False)
        loss = method(student, teacher, file.get_tensor(f"{case['pair']}/hard"))
        loss.backward()
        key = case["name"]
        wanted = sum(weight * file.get_tensor(f"{key}/term.{name}") for name, weight in case["weights"].items())
        close = lambda a, b: torch.testing.assert_close(a.detach(), b, rtol=1e-6, atol=1e-7)
        close(loss, wanted)
        for name, x in raw.items():
            if f"{key}/grad.{name}" in file.keys():
                close(x.grad, file.get_tensor(f"{key}/grad.{name}"))
        expected = {name.removeprefix(f"{key}/param.") for name in file.keys() if name.startswith(f"{key}/param.")}
        self.assertEqual({name for name, _ in method.named_parameters()}, expected)
        for name, p in method.named_parameters():
            pattern = torch.tensor([math.cos(0.7 * i) for i in range(p.numel())])
            close((p.grad.flatten() * pattern).sum(), file.get_tensor(f"{key}/param.{name}"))

    def test_losses_gradients_and_names_are_the_goldens(self):
        checked = []
        with safe_open(GOLDENS, "pt") as file:
            meta = file.metadata()
            table = json.loads(meta["pairs"])
            for case in json.loads(meta["cases"]):
                # Mixed labels are not measured; only HCD reads labels.
                if (
                    case["method"] in methods.METHODS
                    and not case["settings"]
                    and (case["labels"] == "hard" or case["method"] != "hcd")
                ):
                    with self.subTest(case=case["name"], method=case["method"], pair=case["pair"]):
                        self.check(file, case, table[case["pair"]], int(meta["classes"]))
                    checked.append(case["method"])
        self.assertEqual(set(checked), set(methods.METHODS))

    def test_the_batch_norm_buffers_have_heterodynes_names(self):
        level = methods.UhkdLevel(networks.Stage(2, (8, 8)), networks.Stage(3, (8, 8)))
        buffers = {name for name, _ in level.named_buffers()} & set(level.state_dict())
        self.assertEqual(buffers, {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"})


if __name__ == "__main__":
    unittest.main()
