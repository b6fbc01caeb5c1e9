#!/usr/bin/env python3
"""Writes any timm model as one file that heterodyne takes as a teacher.

    python tools/package_teacher.py vit_large_patch16_224 --pretrained --out teacher.pt
    python tools/package_teacher.py regnety_032 --weights mine.safetensors --num-classes 100 --img 112 --out teacher.pt

The file takes normalised images, float32 (B,3,H,W), any B >= 1, and gives a dict of float32 tensors:

    logits            (B,C)
    embedding         (B,D), what the classifier reads
    stage1 .. stage4  from shallow to deep: maps (B,C,H,W), or sequences (B, prefix + H*W, C) with class and
                      distillation tokens first

With --logits-only it gives the logits alone, as a tensor. For networks that heterodyne has too, stages and embedding
are heterodyne's own. Of other pyramids they are the last four feature stages that timm lists, of networks of one width
and grid the blocks after a quarter, half, three quarters and all of the depth.

--format torchscript runs on any machine with PyTorch's library. --format pt2 is compiled for this kind of processor or
GPU and this version of PyTorch: faster where the compiler fuses well, but not to be carried elsewhere. It needs a C++
compiler.

What heterodyne must know about the file travels inside it as JSON: in TorchScript as the extra file `heterodyne.json`,
in pt2 as the package's metadata `heterodyne`. `outputs` lists the outputs in their order; a pt2 package gives them as a
list without names.
"""

import argparse
import ast
import difflib
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

VERSION = 1
METADATA = "heterodyne"
# Largest difference of outputs, as a share of the largest value. In bfloat16 a compiler may round elsewhere than
# PyTorch does.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}
# Two images are traced: with one, a dimension of 1 could be taken for a constant. The file is then tried with these
# batches.
TRACED = 2
BATCHES = (1, 2, 5)
MAX_BATCH = 65536

try:
    import timm
    import torch
    from timm.models.mlp_mixer import MlpMixer
    from timm.models.vision_transformer import VisionTransformer
except ImportError as error:
    sys.exit(f"package_teacher: {error}; install torch and timm for {sys.executable}")


class Wrong(Exception):
    """What cannot be done and what to do instead, in a line."""


def note(text):
    print(f"note: {text}", flush=True)


def first_line(error):
    """What an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def listed(names, count=3):
    names = list(names)
    return ", ".join(f"`{name}`" for name in names[:count]) + (
        f" and {len(names) - count} more" if len(names) > count else ""
    )


# ---- which blocks the stages are taken after

# heterodyne takes the last map of these before the mean, which is behind the blocks; numbers are those of
# `model.blocks`.
EFFICIENT = {"mobilenetv1_100": (1, 2, 3), "mobilenetv2_100": (1, 2, 4), "efficientnet_b0": (1, 2, 4)}


def tap_depths(depth):
    """Blocks, from 0, that heterodyne taps in a transformer or a Mixer: 1/6, 1/3, 5/6 and all of the depth."""
    first = (depth + 3) // 6
    second = max((2 * depth + 3) // 6, first + 1)
    third = min((5 * depth + 3) // 6, depth - 1)
    return [d - 1 for d in (first, second, third, depth)]


def tapped(model, shapes):
    """Which of the feature maps of `shapes` (C,H,W) become stages; heterodyne wants four."""
    count = len(shapes)
    if count < 4:
        return None
    if isinstance(model, (VisionTransformer, MlpMixer)):
        return tap_depths(count)
    if len(set(shapes)) == 1:
        return [(i * count + 2) // 4 - 1 for i in (1, 2, 3, 4)]
    return list(range(count - 4, count))


def count_of(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


class Reader:
    """Reads logits, embedding and stages off a model."""

    def __init__(self):
        # Stages are taken after rows of `blocks`, or are those of timm's feature maps that `indices` number, or there
        # are none.
        self.rows, self.indices, self.arguments = None, None, {}
        # Of sequences, which do not show it themselves.
        self.grid = None
        self.embedding = True

    @classmethod
    def with_stages(cls, model, architecture, x):
        """What features there are is found by trying them on images `x`."""
        read = cls()
        read.rows = EFFICIENT.get(architecture)
        if read.rows:
            return read
        try:
            _, maps = model.forward_intermediates(x)
        except Exception as error:
            raise Wrong(f"timm offers no features of its blocks ({first_line(error)})") from error
        shapes = [tuple(m.shape[1:]) for m in maps]
        read.indices = tapped(model, shapes)
        if read.indices is None:
            raise Wrong(f"it has {count_of(len(shapes), 'feature stage')} and four are needed")
        if len(set(shapes)) == 1:
            read.keep_sequence(model, x, shapes[0][1:])
        return read

    def keep_sequence(self, model, x, grid):
        """Keeps sequences, with their prefix if the model separates it; networks of maps refuse the format."""
        for arguments in (dict(output_fmt="NLC", return_prefix_tokens=True), dict(output_fmt="NLC")):
            try:
                model.forward_intermediates(x, indices=self.indices, **arguments)
            except Exception:  # each family refuses in its own way
                continue
            self.arguments, self.grid = arguments, list(grid)
            return

    def features(self, model, x):
        """What `forward_head` takes, and the stages."""
        if self.rows:
            x = model.bn1(model.conv_stem(x))
            stages = []
            for i, block in enumerate(model.blocks):
                x = block(x)
                if i in self.rows:
                    stages.append(x)
            x = model.bn2(model.conv_head(x))
            return x, [*stages, x]
        if self.indices is None:
            return model.forward_features(x), []
        last, stages = model.forward_intermediates(x, indices=self.indices, **self.arguments)
        # With prefix tokens timm gives pairs (patches, prefix).
        return last, [torch.cat([s[1], s[0]], 1) if isinstance(s, (tuple, list)) else s for s in stages]

    def __call__(self, model, x):
        features, stages = self.features(model, x)
        out = {"logits": model.forward_head(features)}
        if self.embedding:
            out["embedding"] = model.forward_head(features, pre_logits=True)
        out.update({f"stage{i}": stage for i, stage in enumerate(stages, 1)})
        return out


def read_logits(model, x):
    return {"logits": model(x)}


class Teacher(torch.nn.Module):
    """A model as heterodyne calls it: float32 in and out, whatever its own numbers are."""

    def __init__(self, model, read, dtype, bare):
        super().__init__()
        self.model, self.read, self.dtype, self.bare = model, read, dtype, bare

    def forward(self, x):
        out = {name: t.float() for name, t in self.read(self.model, x.to(self.dtype)).items()}
        return out["logits"] if self.bare else out


# ---- the model


def parse_kwargs(pairs):
    """key=value, a Python literal or else a string."""
    kwargs = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise Wrong(f"--model-kwargs takes key=value, not `{pair}`")
        try:
            kwargs[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            kwargs[key] = value
    return kwargs


def check_name(name):
    """Refuses a name that timm does not have, with those it may be meant for."""
    if ":" in name:
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), 3)
        hint = (
            f"the nearest names are {listed(near)}"
            if near
            else "timm.list_models() lists them; a file of the Hub begins with hf-hub:"
        )
        raise Wrong(f"timm {timm.__version__} has no model `{base}`; {hint}")
    tags = timm.list_models(f"{base}.*", pretrained=True)
    if tag and name not in tags:
        raise Wrong(
            f"`{base}` has no pretrained weights `{tag}`; "
            + (f"there are {listed(tags, 8)}" if tags else "it has none")
        )


def create(args):
    """The model in evaluation mode, and the side of its images."""
    kwargs = parse_kwargs(args.model_kwargs)
    size = kwargs.get("img_size")
    size = size[0] if isinstance(size, (tuple, list)) and len(set(size)) == 1 else size
    if size is not None and (not isinstance(size, int) or args.img not in (None, size)):
        raise Wrong(
            f"--model-kwargs img_size={kwargs['img_size']} is not square, or differs from --img; give --img alone"
        )
    img = size if args.img is None else args.img
    if img is not None and img < 1:
        raise Wrong(f"--img {img}: an image has at least one pixel")
    check_name(args.model)
    if args.num_classes is not None:
        if args.num_classes < 1:
            raise Wrong(f"--num-classes {args.num_classes}: a teacher has at least one class")
        kwargs["num_classes"] = args.num_classes
    try:
        resolved = timm.models.resolve_model_input_args(
            args.model, dict(img_size=img) if img is not None else {}, **kwargs
        )
        config = resolved["pretrained_cfg"]
        if args.pretrained and args.num_classes not in (None, config.get("num_classes")):
            raise Wrong(
                f"the pretrained weights have {config.get('num_classes')} classes; "
                "leave out --num-classes, a new classifier knows nothing"
            )
        model = timm.create_model(pretrained=args.pretrained, **resolved)
    except Wrong:
        raise
    except Exception as error:  # of timm, of the Hub's client, of the file system
        raise Wrong(f"timm cannot make {args.model}: {first_line(error)}") from error
    channels, *sides = config["input_size"]
    channels = resolved.get("in_chans", channels)
    if channels != 3:
        raise Wrong(f"{args.model} takes images of {count_of(channels, 'channel')}; a teacher sees 3")
    if img is None and len(set(sides)) != 1:
        raise Wrong(
            f"{args.model} takes images of {sides[0]} x {sides[1]} px; a teacher sees squares, name one with --img"
        )
    return model.requires_grad_(False), img or sides[0]


def load(model, path):
    """Loads a file strictly; position embeddings of another grid are resampled by timm's own filter."""
    if not path.is_file():
        raise Wrong(f"--weights: {path} does not exist or is not a file")
    try:
        theirs = timm.models.load_state_dict(str(path))
    except Exception as error:
        raise Wrong(f"--weights: {path} cannot be read: {first_line(error)}") from error
    own = model.state_dict()
    classifiers = model.pretrained_cfg.get("classifier") or ()
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        found, expected = theirs.get(f"{classifier}.weight"), own.get(f"{classifier}.weight")
        if found is not None and expected is not None and found.shape[0] != expected.shape[0]:
            raise Wrong(
                f"--weights: {path} has {found.shape[0]} classes and the model {expected.shape[0]}; "
                f"say --num-classes {found.shape[0]}"
            )
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:
        try:
            theirs = adapt(theirs, model)
        except Exception as error:
            raise Wrong(f"--weights: {path} is not of this model: {first_line(error)}") from error
    counter = "num_batches_tracked"
    missing = [name for name in own if name not in theirs and not name.endswith(counter)]
    unexpected = [name for name in theirs if name not in own and not name.endswith(counter)]
    shaped = [name for name in own if name in theirs and theirs[name].shape != own[name].shape]
    parts = [
        f"{what} {listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shaped))
        if names
    ]
    if parts:
        raise Wrong(f"--weights: {path} is not of this model: {'; '.join(parts)}")
    model.load_state_dict(theirs, strict=False)


# ---- from the model to its file


def difference(got, want):
    """Largest difference over the largest value, infinite if a value is NaN or infinite."""
    if got.shape != want.shape:
        raise Wrong(f"an output is {tuple(got.shape)} instead of {tuple(want.shape)}")
    if not got.isfinite().all() or not want.isfinite().all():
        return float("inf")
    # Outputs that are all zero, as those of a fresh Mixer, must stay so.
    return ((got - want).abs().max() / want.abs().max().clamp(min=1e-6)).item()


def reader_for(model, architecture, x, wrong):
    """What reads the most off the model and still finds the model's own logits; what it leaves out is noted."""
    expected = model(x)

    def fitting(read):
        logits = model.forward_head(read.features(model, x)[0])
        if difference(logits.float(), expected.float()) > wrong:
            raise Wrong("its features do not lead to its logits")
        try:
            read.embedding = read(model, x)["embedding"].dim() == 2
        except Exception as error:
            read.embedding = False
            note(f"{architecture} is packaged without embedding: {first_line(error)}")
        return read

    try:
        return fitting(Reader.with_stages(model, architecture, x))
    except Exception as error:  # of the model's own code
        note(f"{architecture} is packaged without stages: {first_line(error)}")
    try:
        return fitting(Reader())
    except Exception as error:
        note(f"{architecture} is packaged without embedding: {first_line(error)}")
    return read_logits


def describe(args, teacher, x):
    """The metadata, from what the teacher gives for `x`."""
    out = teacher(x)
    out = {"logits": out} if teacher.bare else out
    config = teacher.model.pretrained_cfg
    stages = []
    for t in (t for name, t in out.items() if name.startswith("stage")):
        if t.dim() == 4:
            stages.append({"kind": "map", "channels": t.shape[1], "grid": list(t.shape[2:])})
        else:
            h, w = teacher.read.grid
            stages.append({"kind": "tokens", "channels": t.shape[2], "grid": [h, w], "prefix": t.shape[1] - h * w})
    source, _, identifier = args.model.partition(":")
    return {
        "version": VERSION,
        "name": f"timm/{args.model}"
        if not identifier
        else f"timm/{config['architecture']}"
        if source == "local-dir"
        else identifier,
        "classes": out["logits"].shape[1],
        "img": x.shape[-1],
        "mean": list(args.mean or config["mean"]),
        "std": list(args.std or config["std"]),
        "crop": config["crop_pct"],
        "dtype": args.dtype,
        "outputs": list(out),
        "embedding": out["embedding"].shape[1] if "embedding" in out else None,
        "stages": stages,
        "torch": torch.__version__.split("+")[0],
        "timm": timm.__version__,
    }


def write_torchscript(teacher, x, metadata, path):
    # Not frozen: a frozen file's weights are constants, which stay on the device where they were frozen.
    try:
        traced = torch.jit.trace(teacher, x[:TRACED], strict=False, check_trace=False)
    except Exception as error:
        raise Wrong(f"the model cannot be traced ({first_line(error)}); try --format pt2") from error
    graph = traced.inlined_graph
    constants = [node.output() for node in graph.findAllNodes("prim::Constant")]
    devices = {str(c.toIValue()) for c in constants if c.type().str() == "Device"}
    if devices:
        note(
            f"the file makes tensors on {', '.join(sorted(devices))} whatever device it is loaded on; "
            "package it with --device for another"
        )
    # Not `save`: on a full disk it ends the process, and its temporary file stays.
    path.write_bytes(traced.save_to_buffer(_extra_files={f"{METADATA}.json": json.dumps(metadata)}))


def write_pt2(teacher, x, metadata, path):
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    try:
        program = torch.export.export(teacher, (x[:TRACED],), dynamic_shapes={"x": {0: batch}})
    except Exception as error:
        raise Wrong(
            f"the model cannot be exported with any batch ({first_line(error)}); try --format torchscript"
        ) from error
    try:
        # Any keys but PyTorch's own are handed through to whoever loads the package.
        configs = {"aot_inductor.metadata": {METADATA: json.dumps(metadata)}}
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)
    except Exception as error:
        raise Wrong(f"the model cannot be compiled ({first_line(error)}); try --format torchscript") from error


def read_torchscript(path, device):
    """The function in a file, and its metadata."""
    extra = {f"{METADATA}.json": ""}
    function = torch.jit.load(str(path), map_location=device, _extra_files=extra)
    return function, json.loads(extra[f"{METADATA}.json"])


def read_pt2(path, device):
    """As heterodyne reads it: the outputs are a list, whose names are in the metadata."""
    package = torch._inductor.aoti_load_package(str(path))
    metadata = json.loads(package.loader.get_metadata()[METADATA])

    def run(x):
        flat = package.loader.run([x])
        if len(flat) != len(metadata["outputs"]):
            raise Wrong(
                f"the package gives {count_of(len(flat), 'output')}, its metadata name {len(metadata['outputs'])}"
            )
        return dict(zip(metadata["outputs"], flat))

    return run, metadata


WRITE = {"torchscript": write_torchscript, "pt2": write_pt2}
READ = {"torchscript": read_torchscript, "pt2": read_pt2}


def verify(path, teacher, x, args, metadata):
    """The written file must say what the model says, for every batch."""
    run, stored = READ[args.format](path, args.device)
    if stored != metadata:
        raise Wrong("the file's metadata are not those that were written")
    worst = 0.0
    for batch in BATCHES:
        images = x[:batch]
        try:
            want = {"logits": teacher(images)} if teacher.bare else teacher(images)
            want["logits"] = teacher.model(images.to(teacher.dtype)).float()
        except Exception as error:
            raise Wrong(f"the model itself fails for {count_of(batch, 'image')}: {first_line(error)}") from error
        try:
            got = run(images)
        except Wrong:
            raise
        except Exception as error:
            other = "pt2" if args.format == "torchscript" else "torchscript"
            raise Wrong(
                f"the file was written for {TRACED} images and fails for {batch} ({first_line(error)}); "
                f"try --format {other}"
            ) from error
        got = {"logits": got} if torch.is_tensor(got) else got
        if list(got) != metadata["outputs"] or any(t.dtype != torch.float32 for t in got.values()):
            raise Wrong(f"the file gives {', '.join(f'{name} {t.dtype}' for name, t in got.items())}")
        for name, t in got.items():
            off = difference(t, want[name])
            if off > TOLERANCE[args.dtype]:
                raise Wrong(
                    f"{name} of the file differs by {off:.1e} of its largest value for a batch of {batch}; "
                    "nothing is kept"
                )
            worst = max(worst, off)
    return worst


def package(args):
    if not args.out.parent.is_dir():
        raise Wrong(f"--out: the folder {args.out.parent} does not exist; create it first")
    if args.out.is_dir():
        raise Wrong(f"--out: {args.out} is a folder; name a file in it")
    if (args.out.suffix == ".pt2") != (args.format == "pt2"):
        raise Wrong(
            f"--out {args.out.name}: files of --format {args.format} end in .{'pt2' if args.format == 'pt2' else 'pt'}"
        )
    if args.device == "cuda" and not torch.cuda.is_available():
        raise Wrong("--device cuda: PyTorch finds no GPU here")
    if args.format == "pt2":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:
            raise Wrong(
                "--format pt2 needs a C++ compiler: install g++, name one in CXX, or take --format torchscript"
            ) from error

    torch.manual_seed(0)
    # TensorFloat-32 would round where the file and the model are compared.
    torch.backends.cudnn.allow_tf32 = False
    model, img = create(args)
    if args.weights:
        load(model, args.weights)
    elif not args.pretrained:
        note("the weights are random; --pretrained or --weights FILE gives trained ones")
    architecture = model.pretrained_cfg["architecture"]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    model = model.eval().to(args.device, dtype)
    x = torch.randn(max(BATCHES), 3, img, img, device=args.device)
    small = x[:TRACED].to(dtype)
    try:
        logits = model(small)
    except Exception as error:
        raise Wrong(f"{architecture} cannot take images of {img} px: {first_line(error)}") from error
    if model.num_classes < 1 or not torch.is_tensor(logits) or tuple(logits.shape) != (TRACED, model.num_classes):
        raise Wrong(f"{architecture} gives no logits (B,C); a classifier comes with --num-classes")
    read = read_logits if args.logits_only else reader_for(model, architecture, small, TOLERANCE[args.dtype])
    teacher = Teacher(model, read, dtype, args.logits_only).eval()
    metadata = describe(args, teacher, x[:TRACED])
    # The file takes its name when it has been tried; until then it is in a folder of its own.
    with tempfile.TemporaryDirectory(prefix=f".{args.out.name}.", dir=args.out.parent) as folder:
        path = Path(folder) / args.out.name
        WRITE[args.format](teacher, x, metadata, path)
        worst = verify(path, teacher, x, args, metadata)
        os.replace(path, args.out)
    stages = (
        " ".join(f"{s['kind']} {s['channels']}x{s['grid'][0]}x{s['grid'][1]}" for s in metadata["stages"])
        or "no stages"
    )
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {metadata['name']}, {metadata['classes']} classes, {img} px, {stages}; {size:.1f} MB")
    print(f"its outputs for {', '.join(map(str, BATCHES))} images are the model's to {worst:.1e}")


def three(text):
    values = [float(v) for v in text.split(",")]
    if len(values) != 3:
        raise argparse.ArgumentTypeError("three numbers, as in 0.485,0.456,0.406")
    return values


def main():
    parser = argparse.ArgumentParser(description="Writes a timm model as one file that heterodyne takes as a teacher.")
    parser.add_argument("model", help="timm's name, also hf-hub:OWNER/NAME or local-dir:FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="the file, .pt or .pt2")
    parser.add_argument("--format", choices=("torchscript", "pt2"), help="as --out ends, without it")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--weights", type=Path, help="a safetensors or PyTorch file with timm's names")
    weights.add_argument(
        "--pretrained", action="store_true", help="timm's weights for this name, downloaded where they are missing"
    )
    parser.add_argument("--img", type=int, help="side of the images in pixels (default: the model's)")
    parser.add_argument("--num-classes", type=int, help="default: the model's")
    parser.add_argument("--mean", type=three, help="of the normalisation, R,G,B from 0 to 1 (default: the model's)")
    parser.add_argument("--std", type=three, help="as --mean")
    parser.add_argument("--logits-only", action="store_true", help="no embedding and no stages")
    parser.add_argument(
        "--dtype", choices=tuple(TOLERANCE), default="fp32", help="of weights and arithmetic; outputs are float32"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where it is written; pt2 runs only there"
    )
    parser.add_argument(
        "--model-kwargs", nargs="+", default=[], metavar="KEY=VALUE", help="handed to timm.create_model"
    )
    args = parser.parse_args()
    args.format = args.format or ("pt2" if args.out.suffix == ".pt2" else "torchscript")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad():
            package(args)
    except Wrong as error:
        sys.exit(f"package_teacher: {error}")
    except OSError as error:
        sys.exit(f"package_teacher: {error}; nothing was written")
    except KeyboardInterrupt:
        sys.exit("package_teacher: interrupted; nothing was written")


if __name__ == "__main__":
    main()
