"""Writes a small ViT of timm to checkpoints like those of training scripts, with its logits. Needs torch
and timm; writes to its own folder:

checkpoint.zip.pth, checkpoint.legacy.pth   a training checkpoint: module.-prefixed `state_dict`, other weights in
                                            `state_dict_ema`
expected.safetensors                        `x` (3,3,8,8) normalised, `state_dict` and `state_dict_ema`, the logits
                                            (3,10) of each
"""

import argparse
import pathlib

import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

HERE = pathlib.Path(__file__).parent


def network(seed):
    torch.manual_seed(seed)
    model = VisionTransformer(img_size=8, patch_size=2, embed_dim=8, depth=4, num_heads=2, num_classes=10).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def main():
    plain, average = network(1), network(2)
    checkpoint = {
        "epoch": 3,
        "arch": "vit",
        "args": argparse.Namespace(lr=0.1, model="vit"),
        "optimizer": torch.optim.SGD(plain.parameters(), lr=0.1).state_dict(),
        "state_dict": torch.nn.DataParallel(plain).state_dict(),
        "state_dict_ema": average.state_dict(),
    }
    torch.save(checkpoint, HERE / "checkpoint.zip.pth")
    torch.save(checkpoint, HERE / "checkpoint.legacy.pth", _use_new_zipfile_serialization=False)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        expected = {"x": x, "state_dict": plain(x), "state_dict_ema": average(x)}
    save_file(expected, HERE / "expected.safetensors", {"torch": torch.__version__, "timm": timm.__version__})


if __name__ == "__main__":
    main()
