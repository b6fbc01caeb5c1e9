"""check_export.py on a folder that timm and torch.onnx have written, whole and with one thing wrong at a time."""

import contextlib
import importlib.util
import io
import json
import shutil
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))
import check_export  # noqa: E402

MISSING = [
    name for name in ("torch", "timm", "safetensors", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None
]
if MISSING:
    print(f"test_check_export: skipped, not installed: {', '.join(MISSING)}", file=sys.stderr)
IMG = 32


def write(folder):
    """A ResNet that timm keeps for tests, with everything that an export has."""
    import timm
    import torch
    from safetensors.torch import save_file
    from timm.models import save_for_hf

    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=7).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.running_mean, std=0.2)
    model.pretrained_cfg.update(input_size=(3, IMG, IMG), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    save_for_hf(model, folder, safe_serialization=True)
    x = torch.randn(3, 3, IMG, IMG)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(model, x).save(str(folder / "model.ts"))
        torch.onnx.export(
            model,
            (x,),
            folder / "model.onnx",
            dynamo=False,
            dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
            input_names=["x"],
            output_names=["logits"],
        )
        save_file({"x": x, "logits": model(x)}, folder / "check.safetensors")
    return model, x


@unittest.skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
class CheckExport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.root = Path(temporary.name)
        (cls.root / "whole").mkdir()
        cls.model, cls.x = write(cls.root / "whole")

    def setUp(self):
        self.folder = self.root / self._testMethodName
        shutil.copytree(self.root / "whole", self.folder)
        self.addCleanup(shutil.rmtree, self.folder)

    def check(self, *more):
        """Exit status, lines of stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.object(sys, "argv", ["check_export.py", str(self.folder), *more]):
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                status = check_export.main()
        return status, out.getvalue().splitlines(), err.getvalue()

    def refused(self, lines, *parts, more=()):
        """Exactly these formats pass; the one line on stderr holds `parts`."""
        status, out, err = self.check(*more)
        self.assertEqual((status, [line.split()[0] for line in out]), (1, lines), err)
        self.assertEqual(len(err.splitlines()), 1, err)
        for part in parts:
            self.assertIn(part, err)

    def change(self, name, edit):
        from safetensors.torch import load_file, save_file

        tensors = load_file(self.folder / name)
        edit(tensors)
        save_file(tensors, self.folder / name)

    def configure(self, edit):
        config = json.loads((self.folder / "config.json").read_text())
        edit(config)
        (self.folder / "config.json").write_text(json.dumps(config))

    def test_a_good_folder_passes_with_small_differences(self):
        status, out, err = self.check()
        self.assertEqual((status, err), (0, ""))
        self.assertEqual([line.split()[0] for line in out], ["timm", "torchscript", "onnx"])
        self.assertTrue(all(0 <= float(line.split()[1]) < 1e-5 for line in out), out)

    def test_wrong_weights_are_noticed(self):
        self.change("model.safetensors", lambda t: t["fc.weight"].mul_(1.01))
        self.refused(["torchscript", "onnx"], "timm: logits of 1 images differ by ")

    def test_wrong_weights_of_one_row_are_noticed(self):
        self.change("model.safetensors", lambda t: t["fc.bias"][3].add_(1e-3))
        self.refused(["torchscript", "onnx"], "timm: logits of 1 images differ by ")

    def test_wrong_logits_are_noticed_by_all(self):
        self.change("check.safetensors", lambda t: t["logits"][2].add_(1.0))
        status, out, err = self.check()
        self.assertEqual((status, out), (1, []))
        self.assertEqual(err.count("logits of 3 images differ by"), 3, err)

    def test_logits_that_cannot_be_compared_are_refused(self):
        for value in (0.0, float("nan")):
            self.change("check.safetensors", lambda t: t["logits"].fill_(value))
            self.refused([], "nothing can be compared")

    def test_missing_files_are_named_and_can_be_left_out(self):
        (self.folder / "model.onnx").unlink()
        self.refused(["timm", "torchscript"], "onnx: model.onnx is missing")
        self.assertEqual(self.check("--without", "onnx")[0], 0)
        (self.folder / "config.json").unlink()
        self.refused(["torchscript"], "timm: config.json is missing", more=("--without", "onnx"))
        status, out, _ = self.check("--without", "onnx", "--without", "timm")
        self.assertEqual((status, len(out)), (0, 1))
        (self.folder / "check.safetensors").unlink()
        self.refused([], "check.safetensors is missing")

    def test_a_missing_tensor_is_noticed(self):
        self.change("model.safetensors", lambda t: t.pop("fc.bias"))
        status, out, err = self.check()
        self.assertEqual((status, [line.split()[0] for line in out]), (1, ["onnx"]))
        self.assertIn(
            "torchscript: tensors differ from those of model.safetensors: `fc.bias` ([7] in model.ts, absent in model",
            err,
        )
        self.assertIn("timm: Error(s) in loading state_dict", err)

    def test_a_configuration_that_does_not_describe_the_network_is_noticed(self):
        self.configure(lambda c: c["pretrained_cfg"].update(input_size=[3, 40, 40]))
        self.refused(["torchscript", "onnx"], "`input_size` is [3, 40, 40]; the images", "[3, 32, 32]")
        self.configure(lambda c: c["pretrained_cfg"].update(input_size=[3, IMG, IMG], mean=[]))
        self.refused(["torchscript", "onnx"], "`mean` is []")
        self.configure(lambda c: c["pretrained_cfg"].pop("mean"))
        self.refused(["torchscript", "onnx"], "`pretrained_cfg` has no `mean`")
        self.configure(lambda c: c.update(num_features=3))
        self.refused(["torchscript", "onnx"], "`num_features` is 3")
        self.configure(lambda c: c.update(architecture="resnet18000"))
        self.refused(["torchscript", "onnx"], "timm: Unknown model (resnet18000)")

    def test_a_batch_that_is_fixed_in_the_file_is_noticed(self):
        import torch

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(self.model, (self.x,), self.folder / "model.onnx", dynamo=False)
        self.refused(["timm", "torchscript"], "onnx: ", "INVALID_ARGUMENT")

    def test_damaged_files_are_refused(self):
        for name, passing in (("model.ts", ["timm", "onnx"]), ("model.onnx", ["timm", "torchscript"])):
            whole = (self.folder / name).read_bytes()
            (self.folder / name).write_bytes(whole[: len(whole) // 2])
            self.refused(passing, "torchscript: " if name == "model.ts" else "onnx: ")
            (self.folder / name).write_bytes(whole)


if __name__ == "__main__":
    unittest.main()
