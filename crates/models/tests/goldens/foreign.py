"""Weights with other libraries' parameter names, for `names.rs`: the names, and the networks' logits.

    python foreign.py

needs torch, torchvision and timm, and writes beside itself
    foreign.txt           names and shapes of each state dict
    foreign.safetensors   logits of two images

torchvision's networks are its own. Of the authors' repositories, whose code is not on the package index, the names are
taken from what timm accepts: a state dict of timm's is renamed here, and timm's `checkpoint_filter_fn` has to lead back
to the original. Weights and images follow from make.py's formula, applied in the order of the state dict.
"""

import json

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import convnext, mlp_mixer, swin_transformer

from make import CLASSES, HERE, VERSIONS, fill, images, state

TORCHVISION = {
    "resnet18": (torchvision.models.resnet18, 64),
    "vit_base_patch16_224": (torchvision.models.vit_b_16, 224),
    # At sizes that windows do not divide torchvision fills them with zeros that are attended to; timm does not.
    "swin_tiny_patch4_window7_224": (torchvision.models.swin_t, 224),
    "convnext_tiny": (torchvision.models.convnext_tiny, 64),
    "mobilenetv2_100": (torchvision.models.mobilenet_v2, 64),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, 64),
}


def swin(name):
    if name.startswith("head.fc."):
        return name.replace("head.fc.", "head.")
    if ".downsample." in name:
        stage = int(name.split(".")[1])
        return name.replace(f"layers.{stage}.", f"layers.{stage - 1}.")
    return name


def next_convnext(name):
    for ours, theirs in [
        ("stem.", "downsample_layers.0."),
        ("head.norm.", "norm."),
        ("head.fc.", "head."),
        (".conv_dw.", ".dwconv."),
        (".mlp.fc1.", ".pwconv1."),
        (".mlp.fc2.", ".pwconv2."),
        (".blocks.", "."),
    ]:
        name = name.replace(ours, theirs)
    if ".downsample." in name:
        _, stage, _, rest = name.split(".", 3)
        return f"downsample_layers.{stage}.{rest}"
    return name


def resmlp(name):
    for ours, theirs in [
        ("stem.", "patch_embed."),
        ("linear_tokens.", "attn."),
        ("mlp_channels.", "mlp."),
        (".ls1", ".gamma_1"),
        (".ls2", ".gamma_2"),
    ]:
        name = name.replace(ours, theirs)
    return name


AUTHORS = {
    "swin_tiny_patch4_window7_224": (swin, swin_transformer.checkpoint_filter_fn, dict(img_size=64)),
    "convnext_tiny": (next_convnext, convnext.checkpoint_filter_fn, {}),
    "resmlp_12_224": (resmlp, mlp_mixer.checkpoint_filter_fn, dict(img_size=64)),
}


def main():
    text, logits, cases = [], {}, []
    for name, (make, img) in TORCHVISION.items():
        model = make(num_classes=CLASSES).eval()
        # The window indices and masks are not weights, but a Swin's state dict holds them.
        indices = {n: t.clone() for n, t in state(model) if not t.is_floating_point()}
        with torch.no_grad():
            fill(model)
            model.load_state_dict(indices, strict=False)
            logits[f"torchvision/{name}"] = model(images(2, img))
        cases.append(dict(key=f"torchvision/{name}", model=name, img=img))
        text.append(f"[torchvision/{name}]")
        text += [f"{n} {'x'.join(map(str, t.shape))}" for n, t in state(model)]
    for name, (rename, accepted, options) in AUTHORS.items():
        model = timm.create_model(name, num_classes=CLASSES, **options).eval()
        with torch.no_grad():
            fill(model)
            logits[f"authors/{name}"] = model(images(2, 64))
        theirs = {rename(n): t.reshape(-1) if n.endswith((".alpha", ".beta")) else t for n, t in state(model)}
        back = accepted(dict(theirs), model)
        assert set(theirs) != set(model.state_dict()) and all(torch.equal(back[n], t) for n, t in state(model)), name
        cases.append(dict(key=f"authors/{name}", model=name, img=64))
        text.append(f"[authors/{name}]")
        text += [f"{n} {'x'.join(map(str, t.shape))}" for n, t in theirs.items()]
    save_file(
        logits,
        HERE / "foreign.safetensors",
        {**VERSIONS, "torchvision": torchvision.__version__, "cases": json.dumps(cases)},
    )
    (HERE / "foreign.txt").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
