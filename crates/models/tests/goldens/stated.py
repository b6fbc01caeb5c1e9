#!/usr/bin/env python3
"""Finds the arguments of timm's constructors that change nothing, in every accepted spelling; writes stated.json.

    python crates/models/tests/goldens/stated.py

For one network of each family (two where they differ), every argument that JSON can hold is stated with the value that
the network has anyway, and layers with every name that means the same. What timm builds then has the same parameters
and, in double precision, the same logits. Needs timm.
"""

import inspect
import json
import pathlib
import warnings

import timm
import torch

warnings.filterwarnings("ignore")
OWNERS = {
    "resnet18": timm.models.resnet.ResNet,
    "resnet50": timm.models.resnet.ResNet,
    "mobilenetv2_100": timm.models.efficientnet.EfficientNet,
    "efficientnet_b0": timm.models.efficientnet.EfficientNet,
    "convnext_tiny": timm.models.convnext.ConvNeXt,
    "vit_tiny_patch16_224": timm.models.vision_transformer.VisionTransformer,
    "deit_tiny_distilled_patch16_224": timm.models.vision_transformer.VisionTransformer,
    "swin_tiny_patch4_window7_224": timm.models.swin_transformer.SwinTransformer,
    "mixer_s16_224": timm.models.mlp_mixer.MlpMixer,
    "resmlp_12_224": timm.models.mlp_mixer.MlpMixer,
}
LAYERS = {
    "act_layer": ["relu", "relu6", "gelu", "silu", "swish", "quick_gelu"],
    "norm_layer": ["batchnorm", "batchnorm2d", "layernorm", "layernorm2d", "rmsnorm", "groupnorm"],
    "aa_layer": ["avg", "blur"],
}


def stated(name, owner):
    """The arguments with which the constructor is called for `name`, those that JSON can hold."""
    seen = {}
    original = owner.__init__

    def spy(self, *args, **kwargs):
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        bound.apply_defaults()
        seen.update({k: v for k, v in bound.arguments.items() if k not in ("self", "kwargs")})
        original(self, *args, **kwargs)

    owner.__init__ = spy
    try:
        timm.create_model(name)
    finally:
        owner.__init__ = original
    for argument, value in seen.items():
        try:
            # Nothing: timm drops arguments that are None before the constructor sees them.
            if value is not None:
                yield argument, json.loads(json.dumps(value))
        except TypeError:
            pass
        yield from ((argument, layer) for layer in LAYERS.get(argument, []))


def logits(model):
    """For a network whose parameters depend only on their names, so the order does not matter."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            generator = torch.Generator().manual_seed(sum(map(ord, key)))
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                value.copy_(
                    noise.abs() + 0.5
                    if key.endswith(("var", "norm.weight"))
                    else noise / max(1, value[0].numel() if value.dim() else 1) ** 0.5
                )
        x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return model(x)


def shapes(model):
    return {key: value.shape for key, value in model.state_dict().items()}


def same(own, own_logits, name, argument, value):
    """Whether setting it changes nothing; None if timm does not accept it."""
    try:
        other = timm.create_model(name, num_classes=10, **{argument: value})
        return shapes(other) == shapes(own) and torch.equal(own_logits, logits(other.double().eval()))
    except Exception:
        return None


def main():
    found = []
    for name, owner in OWNERS.items():
        own = timm.create_model(name, num_classes=10)
        own_logits, done = logits(own.double().eval()), []
        for argument, value in stated(name, owner):
            if argument in ("num_classes", "block_args") or [argument, value] in done:
                continue
            done.append([argument, value])
            verdict = same(own, own_logits, name, argument, value)
            if verdict is not None:
                found.append({"model": name, "argument": argument, "value": value, "same": verdict})
                print(found[-1], flush=True)
    text = ",\n".join("  " + json.dumps(case) for case in found)
    pathlib.Path(__file__).with_name("stated.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
