#!/usr/bin/env python3
"""Checks an exported network with the libraries that others will open it with.

    python tools/check_export.py FOLDER [FOLDER ..] [--without timm|torchscript|onnx]

Each FOLDER holds
    model.safetensors, config.json    as timm keeps a model: create_model("local-dir:FOLDER", pretrained=True)
    model.ts                          TorchScript, images (B,3,H,W) to logits (B,C)
    model.onnx                        the same for ONNX
    check.safetensors                 `x` (B,3,H,W) normalised, float32, and the exporter's own `logits` (B,C) of it

Each format runs on the CPU at batch 1, B and B + 1. A line for each gives the largest difference from `logits` over the
largest logit, `timm 1.2e-06`; it may be at most 1e-4. Anything that is missing or differs is a line on stderr, and the
exit status is 1. With several folders the name of each comes before its lines. `--without` leaves a format out that the
folders do not have: timm lacks some of heterodyne's networks.
"""

import argparse
import json
import sys
from pathlib import Path

FORMATS = ("timm", "torchscript", "onnx")
TOLERANCE = 1e-4
# Where model.ts keeps tensors that follow from the network's sizes, such as the masks of a Swin's windows.
CONSTANTS = "constants."


class Wrong(Exception):
    """What is wrong with the folder, in a line."""


def needed(folder, name):
    path = folder / name
    if not path.is_file():
        raise Wrong(f"{name} is missing in {folder}")
    return path


def first_line(error):
    """Of an error of a library; messages of TorchScript end with what matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (
        lines[-1] if lines[0].startswith("The following operation failed in the TorchScript interpreter") else lines[0]
    )


def read_check(folder):
    """`x` and `logits` of check.safetensors."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(needed(folder, "check.safetensors"))
    for name, dims in (("x", 4), ("logits", 2)):
        if name not in tensors:
            raise Wrong(f"check.safetensors holds no `{name}`")
        t = tensors[name]
        if t.dtype != torch.float32 or t.dim() != dims or t.numel() == 0:
            raise Wrong(
                f"check.safetensors: `{name}` is {t.dtype} {tuple(t.shape)}; float32 of {dims} dimensions is needed"
            )
    x, logits = tensors["x"], tensors["logits"]
    if len(x) != len(logits):
        raise Wrong(f"check.safetensors: {len(x)} images in `x` and {len(logits)} rows in `logits`")
    if not logits.isfinite().all() or logits.abs().max() == 0:
        raise Wrong("check.safetensors: `logits` are not finite, or all zero, so nothing can be compared with them")
    return x, logits


def compare(run, x, logits):
    """The largest relative difference over the three batches. `run` takes images and returns logits."""
    worst = 0.0
    for batch in (1, len(x), len(x) + 1):
        rows = [i % len(x) for i in range(batch)]
        got, want = run(x[rows]), logits[rows]
        if tuple(got.shape) != tuple(want.shape):
            raise Wrong(f"logits are {tuple(got.shape)} for {batch} images; {tuple(want.shape)} is right")
        difference = ((got.float() - want).abs().max() / logits.abs().max()).item()
        if not difference <= TOLERANCE:  # also if it is NaN
            raise Wrong(
                f"logits of {batch} images differ by {difference:.1e} of the largest; at most {TOLERANCE:.0e} is right"
            )
        worst = max(worst, difference)
    return worst


def check_timm(folder, x, logits):
    import timm
    import timm.data
    import torch

    needed(folder, "model.safetensors")
    stored = json.loads(needed(folder, "config.json").read_text())
    for key in ("architecture", "num_classes", "num_features", "pretrained_cfg"):
        if key not in stored:
            raise Wrong(f"config.json has no `{key}`")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    if stored["num_features"] != model.num_features:
        raise Wrong(f"config.json: `num_features` is {stored['num_features']}; the model's is {model.num_features}")
    config = timm.data.resolve_data_config({}, model=model)
    for key in ("mean", "std", "input_size"):
        if key not in stored["pretrained_cfg"]:
            raise Wrong(f"config.json: `pretrained_cfg` has no `{key}`")
        if list(config[key]) != list(stored["pretrained_cfg"][key]):
            raise Wrong(
                f"config.json: `{key}` is {stored['pretrained_cfg'][key]}, and timm makes {list(config[key])} of it"
            )
    if list(x.shape[1:]) != list(config["input_size"]):
        raise Wrong(
            f"config.json: `input_size` is {list(config['input_size'])}; "
            f"the images of check.safetensors are {list(x.shape[1:])}"
        )
    with torch.no_grad():
        return compare(model, x, logits)


def check_torchscript(folder, x, logits):
    import torch
    from safetensors import safe_open

    model = torch.jit.load(str(needed(folder, "model.ts")), map_location="cpu").eval()
    with safe_open(needed(folder, "model.safetensors"), "pt") as file:
        stored = {name: file.get_slice(name).get_shape() for name in file.keys()}
    scripted = {name: list(t.shape) for name, t in model.state_dict().items()}
    stored, scripted = (
        {n: s for n, s in names.items() if not n.endswith("num_batches_tracked")} for names in (stored, scripted)
    )
    scripted = {n: s for n, s in scripted.items() if not n.startswith(CONSTANTS)}
    differing = [name for name in sorted(stored.keys() | scripted.keys()) if stored.get(name) != scripted.get(name)]
    if differing:
        name, more = differing[0], f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        shapes = f"{scripted.get(name, 'absent')} in model.ts, {stored.get(name, 'absent')} in model.safetensors"
        raise Wrong(f"tensors differ from those of model.safetensors: `{name}`{more} ({shapes})")
    with torch.no_grad():
        return compare(model, x, logits)


def check_onnx(folder, x, logits):
    import onnx
    import onnxruntime
    import torch

    path = str(needed(folder, "model.onnx"))
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise Wrong(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is right")
    return compare(lambda x: torch.from_numpy(session.run(None, {inputs[0].name: x.numpy()})[0]), x, logits)


def check(folder, without):
    """Prints a line for each format, and says whether all is right."""
    right = True

    def say(what, problem):
        nonlocal right
        right = False
        print(f"{what}: {problem}", file=sys.stderr)

    try:
        x, logits = read_check(folder)
    except Exception as error:
        say("check_export", first_line(error))
        return right
    checks = {"timm": check_timm, "torchscript": check_torchscript, "onnx": check_onnx}
    for name in FORMATS:
        if name in without:
            continue
        try:
            print(f"{name} {checks[name](folder, x, logits):.1e}", flush=True)
        except ImportError as error:
            say(name, f"{first_line(error)}; install it, or leave the format out with --without {name}")
        except Exception as error:  # each library has errors of its own
            say(name, first_line(error))
    return right


def main():
    parser = argparse.ArgumentParser(description="Checks exported networks with timm, TorchScript and onnxruntime.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="folder")
    parser.add_argument(
        "--without", action="append", choices=FORMATS, default=[], help="leave a format out; may be repeated"
    )
    args = parser.parse_args()
    right = True
    for folder in args.folders:
        if len(args.folders) > 1:
            print(folder, flush=True)
        right = check(folder, args.without) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
