"""Tiny networks of Hugging Face's transformers, written by `save_pretrained`, and their logits.

    python transformers.py

needs torch, transformers, safetensors and pillow, and writes into transformers/ beside itself
    vit/          ViTForImageClassification with named classes, images by ViTImageProcessor
    deit/         DeiTForImageClassificationWithTeacher, images by DeiTImageProcessor (resized, then cropped)
    deit_class/   DeiTForImageClassification: a distillation token that no classifier reads
    vit_memory.pth         the first network's state dict in memory, whose names differ since transformers 5
    picture.png            an image
    expected.safetensors   `x` (2,3,16,16), and for each folder NAME/x and NAME/picture: logits for `x` and the image
"""

import sys
from pathlib import Path

# This file has the library's name.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HERE = Path(__file__).parent / "transformers"
IMG = 16
SIZES = dict(
    hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=IMG, patch_size=4
)
NAMES = ["great grey owl", "tabby, tabby cat", "pug"]
# Processors: the one whose settings are stored, and the one on Pillow that makes the image.
VIT = (ViTImageProcessor, ViTImageProcessorPil, dict(size={"height": IMG, "width": IMG}, image_mean=[0.4, 0.5, 0.6]))
DEIT = (
    DeiTImageProcessor,
    DeiTImageProcessorPil,
    dict(size={"height": 20, "width": 20}, crop_size={"height": IMG, "width": IMG}, image_std=[0.2, 0.25, 0.3]),
)


def net(kind, config):
    model = kind(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def main():
    torch.manual_seed(0)
    names = dict(id2label=dict(enumerate(NAMES)), label2id={name: i for i, name in enumerate(NAMES)})
    nets = {
        "vit": (net(ViTForImageClassification, ViTConfig(**SIZES, **names)), VIT),
        "deit": (
            net(DeiTForImageClassificationWithTeacher, DeiTConfig(**SIZES, num_labels=5, layer_norm_eps=1e-2)),
            DEIT,
        ),
        "deit_class": (net(DeiTForImageClassification, DeiTConfig(**SIZES, num_labels=4)), DEIT),
    }
    HERE.mkdir(exist_ok=True)
    grid = torch.rand(1, 3, 4, 5)
    pixels = torch.nn.functional.interpolate(grid, (23, 29), mode="bilinear")[0].mul(255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture.save(HERE / "picture.png")
    expected = {"x": torch.randn(2, 3, IMG, IMG)}
    for name, (model, (stored, pillow, settings)) in nets.items():
        model.save_pretrained(HERE / name)
        stored(**settings).save_pretrained(HERE / name)
        with torch.no_grad():
            expected[f"{name}/x"] = model(expected["x"]).logits
            expected[f"{name}/picture"] = model(**pillow(**settings)(picture, return_tensors="pt")).logits
    torch.save(nets["vit"][0].state_dict(), HERE / "vit_memory.pth")
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
