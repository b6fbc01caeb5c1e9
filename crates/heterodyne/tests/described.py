"""Writes folders in timm's format, each with images and timm's logits for them: python described.py FOLDER

Each folder has `config.json`, `model.safetensors`, and `check.safetensors` with `x` and `logits`.
"""

import json
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

VIT = dict(img_size=32, embed_dim=32, depth=4, num_heads=2)
CASES = {
    "token": ("vit_tiny_patch16_224", VIT),
    "average": ("vit_tiny_patch16_224", dict(VIT, global_pool="avg")),
    "average_without_fc_norm": ("vit_tiny_patch16_224", dict(VIT, global_pool="avg", fc_norm=False)),
    "token_with_fc_norm": ("vit_tiny_patch16_224", dict(VIT, fc_norm=True)),
    "patch": ("vit_tiny_patch16_224", dict(VIT, patch_size=8, drop_path_rate=0.1)),
    "batch_norm": ("mobilenetv2_100", dict(bn_eps=1e-2)),
    "layer_norm": ("convnext_tiny", dict(norm_eps=1e-1, depths=[1, 1, 1, 1], dims=[16, 32, 64, 128])),
    # Not supported by any network here.
    "refused_qkv_bias": ("vit_tiny_patch16_224", dict(VIT, qkv_bias=False)),
    "refused_class_token": ("vit_tiny_patch16_224", dict(VIT, class_token=False, global_pool="avg")),
    "refused_init_values": ("vit_tiny_patch16_224", dict(VIT, init_values=1e-3)),
    "refused_input_size": ("resnet18", dict(in_chans=1)),
    "refused_global_pool": ("resnet18", dict(global_pool="max")),
    "refused_output_stride": ("resnet18", dict(output_stride=16)),
}


def write(folder, architecture, args):
    net = timm.create_model(architecture, num_classes=7, **args).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            # Norms and position embeddings start with equal values, which would hide omissions.
            if p.dim() == 1 or "embed" in name:
                p += 0.1 * torch.randn_like(p)
        side = 32
        x = torch.randn(2, args.get("in_chans", 3), side, side)
        # Batch norms need real statistics; otherwise rounding errors would grow from layer to layer.
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.randn(16, *x.shape[1:]))
        logits = net.eval()(x)
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    save_file({"x": x, "logits": logits}, folder / "check.safetensors")
    pretrained = dict(
        input_size=[x.shape[1], side, side], crop_pct=0.9, interpolation="bicubic", mean=[0.5] * 3, std=[0.5] * 3
    )
    config = dict(
        architecture=architecture,
        num_classes=7,
        num_features=net.num_features,
        model_args=args,
        pretrained_cfg=pretrained,
    )
    (folder / "config.json").write_text(json.dumps(config))


def main():
    torch.manual_seed(0)
    for name, case in CASES.items():
        write(Path(sys.argv[1]) / name, *case)


if __name__ == "__main__":
    main()
