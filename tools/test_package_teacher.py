"""package_teacher.py on small networks with weights that follow from a formula.

The stages of heterodyne's own networks are compared with hooks on the modules that crates/models/tests/goldens/make.py
names, from whose values the Rust networks are tested.
"""

import contextlib
import importlib.util
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

TOOLS = Path(__file__).resolve().parent
MISSING = [name for name in ("torch", "timm", "safetensors", "numpy") if importlib.util.find_spec(name) is None]
if MISSING:
    print(f"test_package_teacher: skipped, not installed: {', '.join(MISSING)}", file=sys.stderr)
else:
    import timm
    import torch
    from safetensors.torch import load_file, save_file

    sys.path.insert(0, str(TOOLS))
    import package_teacher

    spec = importlib.util.spec_from_file_location(
        "make", TOOLS.parent / "crates" / "models" / "tests" / "goldens" / "make.py"
    )
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)

CLASSES = 10
# Name, pixels, arguments of timm that make it small.
OWN = [
    ("resnet18", 32, {}),
    ("mobilenetv1_100", 32, {}),
    ("mobilenetv2_100", 32, {}),
    ("efficientnet_b0", 32, {}),
    ("convnext_tiny", 64, dict(dims=[16, 32, 64, 128], depths=[1, 2, 1, 1])),
    (
        "swin_tiny_patch4_window7_224",
        64,
        dict(embed_dim=24, depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8], window_size=3),
    ),
    ("vit_tiny_patch16_224", 32, dict(patch_size=4, embed_dim=48, depth=5)),
    ("deit_tiny_distilled_patch16_224", 32, dict(patch_size=4, embed_dim=48, depth=8)),
    ("mixer_s16_224", 32, {}),
    ("resmlp_12_224", 32, {}),
]
PREFIX = {"vit_tiny_patch16_224": 1, "deit_tiny_distilled_patch16_224": 2, "mixer_s16_224": 0, "resmlp_12_224": 0}
RELOAD = """
import json, sys, torch
from safetensors.torch import load_file
expected = load_file(sys.argv[2])
x = expected.pop("x")
for batch in (1, 2, 5):
    if sys.argv[1].endswith(".pt2"):
        package = torch._inductor.aoti_load_package(sys.argv[1])
        outputs = json.loads(package.loader.get_metadata()["heterodyne"])["outputs"]
        out = dict(zip(outputs, package.loader.run([x[:batch]])))
    else:
        out = torch.jit.load(sys.argv[1])(x[:batch])
    assert out.keys() == expected.keys(), out.keys()
    for name, want in expected.items():
        off = (out[name] - want[:batch]).abs().max() / want.abs().max()
        assert off < 1e-4, (name, batch, off)
print("same")
"""


@unittest.skipIf(MISSING, f"not installed: {', '.join(MISSING)}")
class PackageTeacher(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        torch.set_num_threads(1)

    def package(self, name, out, *more):
        """What it prints, as lines; SystemExit where it refuses."""
        text = io.StringIO()
        argv = ["package_teacher.py", name, "--out", str(self.folder / out), *map(str, more)]
        with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(text):
            package_teacher.main()
        return text.getvalue().splitlines()

    def refused(self, *argv, parts=(), out="x.pt"):
        """Nothing but what was there before is left, and the error is one line that holds `parts`."""
        before = sorted(self.folder.iterdir())
        with self.assertRaises(SystemExit) as raised:
            self.package(argv[0], out, *argv[1:])
        message = str(raised.exception.code)
        self.assertTrue(message.startswith("package_teacher: "), message)
        self.assertNotIn("\n", message)
        for part in parts:
            self.assertIn(part, message)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def filled(self, name, img, **kwargs):
        """timm's network with the weights of the goldens, and a file of them."""
        if "img_size" not in kwargs and timm.get_pretrained_cfg(name).fixed_input_size:
            kwargs["img_size"] = img
        model = timm.create_model(name, num_classes=CLASSES, **kwargs)
        with torch.no_grad():
            make.fill(model)
        save_file(model.state_dict(), self.folder / "weights.safetensors")
        return model.eval()

    def arguments(self, img, kwargs):
        pairs = [f"{key}={value}" for key, value in kwargs.items()]
        return [
            "--img",
            img,
            "--num-classes",
            CLASSES,
            "--weights",
            self.folder / "weights.safetensors",
            *(["--model-kwargs", *pairs] if pairs else []),
        ]

    def hooked(self, model, modules, x, change=lambda t: t):
        """Logits, embedding and what `modules` put out."""
        stages = []
        hooks = [m.register_forward_hook(lambda _, __, out: stages.append(change(out).clone())) for m in modules]
        with torch.no_grad():
            logits = model(x)
            for hook in hooks:
                hook.remove()
            embedding = model.forward_head(model.forward_features(x), pre_logits=True)
        out = {"logits": logits, "embedding": embedding, **{f"stage{i}": t for i, t in enumerate(stages, 1)}}
        return {name: t.contiguous() for name, t in out.items()}

    def read(self, out):
        extra = {"heterodyne.json": ""}
        return torch.jit.load(str(self.folder / out), _extra_files=extra), json.loads(extra["heterodyne.json"])

    def same(self, run, expected, x):
        for batch in (1, 2, 5):
            got = run(x[:batch])
            self.assertEqual(list(got), list(expected))
            for name, want in expected.items():
                self.assertEqual(got[name].dtype, torch.float32)
                self.assertLess(((got[name] - want[:batch]).abs().max() / want.abs().max()).item(), 1e-5, (name, batch))

    def described(self, metadata, expected, prefix=None):
        """The metadata say what the tensors show."""
        self.assertEqual(metadata["outputs"], list(expected))
        self.assertEqual(metadata["embedding"], expected["embedding"].shape[1])
        stages = [t for name, t in expected.items() if name.startswith("stage")]
        self.assertEqual(len(metadata["stages"]), len(stages))
        for stage, t in zip(metadata["stages"], stages):
            h, w = stage["grid"]
            if prefix is None:
                self.assertEqual((stage["kind"], [stage["channels"], h, w]), ("map", list(t.shape[1:])))
            else:
                self.assertEqual(
                    (stage["kind"], stage["prefix"], [prefix + h * w, stage["channels"]]),
                    ("tokens", prefix, list(t.shape[1:])),
                )

    def test_stages_of_its_own_networks_are_heterodynes(self):
        for name, img, kwargs in OWN:
            with self.subTest(name):
                model = self.filled(name, img, **kwargs)
                lines = self.package(name, f"{name}.pt", *self.arguments(img, kwargs))
                self.assertFalse(any(line.startswith("note") for line in lines), lines)
                x = torch.randn(5, 3, img, img)
                expected = self.hooked(model, make.tapped(name, model), x, lambda t: make.stage(name, t))
                run, metadata = self.read(f"{name}.pt")
                self.same(run, expected, x)
                self.described(metadata, expected, PREFIX.get(name))

    def test_other_pyramids_give_their_last_four_stages(self):
        for name, img, modules in [
            ("regnetx_002", 32, lambda m: [m.s1, m.s2, m.s3, m.s4]),
            ("test_maxvit", 64, lambda m: list(m.stages)),
        ]:
            with self.subTest(name):
                model = self.filled(name, img)
                self.package(name, f"{name}.pt", *self.arguments(img, {}))
                x = torch.randn(5, 3, img, img)
                expected = self.hooked(model, modules(model), x)
                run, metadata = self.read(f"{name}.pt")
                self.same(run, expected, x)
                self.described(metadata, expected)

    def test_other_sequences_give_four_evenly_spaced_blocks(self):
        # XCiT's class token comes after these blocks; EVA's comes before.
        for name, kwargs, prefix in [
            ("xcit_nano_12_p16_224", dict(embed_dim=32), 0),
            ("eva02_tiny_patch14_224", dict(patch_size=16, depth=8), 1),
        ]:
            with self.subTest(name):
                model = self.filled(name, 32, **kwargs)
                self.package(name, f"{name}.pt", *self.arguments(32, kwargs))
                x = torch.randn(5, 3, 32, 32)
                depth = len(model.blocks)
                expected = self.hooked(model, [model.blocks[depth * i // 4 - 1] for i in (1, 2, 3, 4)], x)
                run, metadata = self.read(f"{name}.pt")
                self.same(run, expected, x)
                self.described(metadata, expected, prefix)

    def test_without_four_stages_logits_and_embedding_are_left(self):
        name, kwargs = "levit_128s", dict(img_size=64)
        model = self.filled(name, 64, **kwargs)
        lines = self.package(name, "x.pt", *self.arguments(64, kwargs))
        self.assertIn("note: levit_128s is packaged without stages: it has 3 feature stages and four are needed", lines)
        x = torch.randn(5, 3, 64, 64)
        run, metadata = self.read("x.pt")
        expected = self.hooked(model, [], x)
        self.same(run, expected, x)
        self.described(metadata, expected)

    def test_metadata_and_a_fresh_process(self):
        name, img, kwargs = OWN[6]
        model = self.filled(name, img, **kwargs)
        self.package(name, "x.pt", *self.arguments(img, kwargs), "--mean", "0.1,0.2,0.3")
        x = torch.randn(5, 3, img, img)
        expected = self.hooked(model, make.tapped(name, model), x)
        save_file({"x": x, **expected}, self.folder / "expected.safetensors")
        stage = {"kind": "tokens", "channels": 48, "grid": [8, 8], "prefix": 1}
        self.assertEqual(
            self.read("x.pt")[1],
            {
                "version": 1,
                "name": f"timm/{name}",
                "classes": CLASSES,
                "img": img,
                "mean": [0.1, 0.2, 0.3],
                "std": [0.5, 0.5, 0.5],
                "crop": 0.9,
                "dtype": "fp32",
                "outputs": ["logits", "embedding", "stage1", "stage2", "stage3", "stage4"],
                "embedding": 48,
                "stages": [stage] * 4,
                "torch": torch.__version__.split("+")[0],
                "timm": timm.__version__,
            },
        )
        self.reload("x.pt")

    def reload(self, out):
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            RELOAD,
            str(self.folder / out),
            str(self.folder / "expected.safetensors"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(result.stdout, "same\n", result.stderr)

    def test_logits_alone_are_a_tensor_and_bfloat16_stays_inside(self):
        model = self.filled("test_resnet", 32)
        x = torch.randn(3, 3, 32, 32)
        self.package("test_resnet", "x.pt", *self.arguments(32, {}), "--logits-only")
        run, metadata = self.read("x.pt")
        with torch.no_grad():
            torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)
            self.assertEqual((metadata["outputs"], metadata["embedding"], metadata["stages"]), (["logits"], None, []))
            self.package("test_resnet", "x.pt", *self.arguments(32, {}), "--dtype", "bf16")
            run, metadata = self.read("x.pt")
            out = run(x)
            self.assertEqual((metadata["dtype"], {t.dtype for t in out.values()}), ("bf16", {torch.float32}))
            off = (out["logits"] - model(x)).abs().max() / model(x).abs().max()
            self.assertTrue(1e-5 < off < 0.1, off)

    def test_a_folder_as_timm_keeps_it(self):
        torch.manual_seed(1)
        model = timm.create_model("test_vit", num_classes=7).eval()
        timm.models.save_for_hf(model, self.folder / "kept", safe_serialization=True)
        self.package(f"local-dir:{self.folder / 'kept'}", "x.pt", "--pretrained")
        run, metadata = self.read("x.pt")
        self.assertEqual((metadata["name"], metadata["classes"], metadata["img"]), ("timm/test_vit", 7, 160))
        x = torch.randn(2, 3, 160, 160)
        with torch.no_grad():
            torch.testing.assert_close(run(x)["logits"], model(x), rtol=1e-4, atol=1e-5)
        self.refused(
            f"local-dir:{self.folder / 'kept'}",
            "--pretrained",
            "--num-classes",
            9,
            parts=["the pretrained weights have 7 classes"],
        )
        self.refused(f"local-dir:{self.folder / 'absent'}", "--pretrained", parts=["Config file not found"])

    def test_pt2_gives_its_outputs_in_the_order_of_its_metadata(self):
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            print("test_package_teacher: pt2 is skipped, no C++ compiler", file=sys.stderr)
            self.skipTest("no C++ compiler")
        name, img, kwargs = OWN[6]
        model = self.filled(name, img, **kwargs)
        self.package(name, "x.pt2", *self.arguments(img, kwargs))
        x = torch.randn(5, 3, img, img)
        expected = self.hooked(model, make.tapped(name, model), x)
        save_file({"x": x, **expected}, self.folder / "expected.safetensors")
        loader = torch._inductor.aoti_load_package(str(self.folder / "x.pt2")).loader
        metadata = json.loads(loader.get_metadata()["heterodyne"])
        self.described(metadata, expected, 1)
        # PyTorch's own account of the outputs names them in the same order.
        self.assertEqual(json.loads(json.loads(loader.get_call_spec()[1])[1]["context"]), metadata["outputs"])
        self.reload("x.pt2")

    def test_without_a_compiler_pt2_says_so(self):
        import torch._inductor.config as config

        with mock.patch.object(config.cpp, "cxx", (None, "no-such-compiler")):
            self.refused("resnet18", out="x.pt2", parts=["needs a C++ compiler", "--format torchscript"])

    def test_wrong_arguments(self):
        self.refused("resnet19", parts=["no model `resnet19`", "`resnet18`"])
        self.refused("resnet18.fresh", parts=["no pretrained weights `fresh`", "`resnet18.a1_in1k`"])
        self.refused("moon:resnet18", parts=["Unknown model source 'moon'"])
        self.refused("resnet18", "--img", 0, parts=["at least one pixel"])
        self.refused("vit_tiny_patch16_224", "--img", 8, parts=["8 px"])
        self.refused("resnet18", "--num-classes", 0, parts=["at least one class"])
        self.refused("resnet18", "--model-kwargs", "depth", parts=["key=value"])
        self.refused("resnet18", "--model-kwargs", "moon=1", parts=["timm cannot make resnet18", "moon"])
        self.refused("resnet18", "--model-kwargs", "in_chans=1", parts=["a teacher sees 3"])
        self.refused("resnet18", "--img", "64", "--model-kwargs", "img_size=32", parts=["give --img alone"])
        self.refused("resnet18", out="none/x.pt", parts=["does not exist; create it"])
        self.refused("resnet18", out="x.pt", *["--format", "pt2"], parts=["end in .pt2"])
        with (
            mock.patch.dict(os.environ, HF_HUB_OFFLINE="1"),
            mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        ):
            self.refused("hf-hub:no-one/nothing", "--pretrained", parts=["timm cannot make hf-hub:no-one/nothing"])

    def test_wrong_weights(self):
        self.filled("resnet18", 64)
        weights = self.folder / "weights.safetensors"
        self.refused("resnet18", "--weights", weights, parts=["10 classes and the model 1000; say --num-classes 10"])
        self.refused(
            "resnet34",
            "--num-classes",
            CLASSES,
            "--weights",
            weights,
            parts=["not of this model: missing `layer1.2.conv1.weight`", " more"],
        )
        self.refused("vit_tiny_patch16_224", "--weights", weights, parts=["is not of this model"])
        self.refused("resnet18", "--weights", self.folder / "none", parts=["does not exist"])
        tensors = load_file(weights)
        save_file({**tensors, "conv1.weight": torch.zeros(64, 3, 3, 3)}, weights)
        self.refused(
            "resnet18", "--num-classes", CLASSES, "--weights", weights, parts=["of another shape `conv1.weight`"]
        )
        weights.write_bytes(weights.read_bytes()[:5000])
        self.refused("resnet18", "--num-classes", CLASSES, "--weights", weights, parts=["cannot be read"])

    def changed(self, change):
        """timm's networks, changed by `change`."""
        create = timm.create_model

        def changing(*args, **kwargs):
            model = create(*args, **kwargs)
            change(model)
            return model

        return mock.patch.object(timm, "create_model", changing)

    def test_a_head_that_does_not_give_the_models_logits_is_not_packaged_as_one(self):
        def change(model):
            head = model.forward_head
            model.forward_head = lambda f, pre_logits=False: head(f, pre_logits=pre_logits) * 1.01
            model.forward = lambda x: head(model.forward_features(x))

        with self.changed(change):
            lines = self.package("test_resnet", "x.pt", "--img", 32)
        self.assertEqual(sum("its features do not lead to its logits" in line for line in lines), 2, lines)
        self.assertEqual(self.read("x.pt")[1]["outputs"], ["logits"])

    def test_a_batch_that_the_trace_has_fixed_is_noticed(self):
        def change(model):
            head = model.forward_head
            model.forward_head = lambda f, pre_logits=False: head(
                f.reshape(int(f.shape[0]), -1, f.shape[2], f.shape[3]), pre_logits=pre_logits
            )

        with self.changed(change):
            self.refused(
                "test_resnet", "--img", 32, parts=["was written for 2 images and fails for 1", "try --format pt2"]
            )

    def test_a_file_that_differs_from_the_model_is_not_kept(self):
        write = package_teacher.write_torchscript

        def tampered(teacher, x, metadata, path):
            last = teacher.model.fc.bias
            last.data += 1e-2
            write(teacher, x, metadata, path)
            # What was traced shares the weights, so they are put back after it has been written.
            last.data -= 1e-2

        (self.folder / "x.pt").write_text("what was there before")
        with mock.patch.dict(package_teacher.WRITE, torchscript=tampered):
            self.refused("test_resnet", "--img", 32, parts=["logits of the file differs by", "nothing is kept"])
        self.assertEqual((self.folder / "x.pt").read_text(), "what was there before")

    def test_a_full_disk_leaves_nothing_behind(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        command = [
            sys.executable,
            str(TOOLS / "package_teacher.py"),
            "test_resnet",
            "--img",
            "32",
            "--out",
            str(self.folder / "x.pt"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=limit)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertRegex(result.stderr, "package_teacher: .*nothing was written")
        self.assertNotIn("Traceback", result.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
