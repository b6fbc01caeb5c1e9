"""Writes evaluation.safetensors: timm's evaluation transforms of three pictures, uint8 (H,W,3).

Usage: python make_evaluation.py    (needs torch, torchvision, timm, Pillow, safetensors)
"""

from pathlib import Path

import numpy as np
import PIL
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

SOURCES = {"landscape": (57, 83), "portrait": (90, 61), "square": (48, 48)}


def picture(height, width):
    """Waves and noise, so every filter has something to smooth."""
    rng = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([127 + 90 * np.sin(x / 5 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
    return np.clip(waves + rng.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)


def main():
    out = {name: torch.from_numpy(picture(*size)) for name, size in SOURCES.items()}
    for source in SOURCES:
        image = Image.fromarray(out[source].numpy())
        for img, crop_pct in ((32, 0.875), (40, 1.0), (48, 1.0), (64, 0.9)):
            for mode in ("center", "squash", "border"):
                for filter in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
                    # Every filter once per mode, every mode and size with the usual two.
                    if filter not in ("bilinear", "bicubic") and (source != "landscape" or img != 32):
                        continue
                    # A box filter includes or excludes a pixel exactly on its border by rounding. Also, Pillow 13
                    # resizes a portrait's rows first if that is less work; earlier versions and ours do not.
                    if (filter == "box" and mode != "border") or (source == "portrait" and mode == "squash"):
                        continue
                    transform = create_transform(
                        (3, img, img),
                        is_training=False,
                        interpolation=filter,
                        crop_pct=crop_pct,
                        crop_mode=mode,
                        mean=(0.485, 0.456, 0.406),
                        normalize=False,
                    )
                    out[f"{source} {img} {crop_pct} {mode} {filter}"] = transform(image).permute(1, 2, 0).contiguous()
    metadata = {
        name: module.__version__ for name, module in (("timm", timm), ("torchvision", torchvision), ("pillow", PIL))
    }
    save_file(out, Path(__file__).with_name("evaluation.safetensors"), metadata)


if __name__ == "__main__":
    main()
