"""Reference values for the tests of heterodyne-data, from Pillow, torchvision, PyTorch and pyarrow.

    python make.py                        writes transforms.safetensors, decode.safetensors, view.safetensors, parquet/
    python make.py --real SHARED_DATA     writes real.safetensors: labels, hashes and single pixels of the real files
                                          in that folder

Needs torch, torchvision, numpy, pillow, pyarrow and safetensors. The pictures are made up here; of the real files only
numbers are kept.
"""

import hashlib
import io
import json
import math
import pathlib
import sys

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms as T
import torchvision.transforms.functional as TF
from PIL import Image
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
VERSIONS = {
    "torch": torch.__version__,
    "torchvision": torchvision.__version__,
    "numpy": np.__version__,
    "pillow": PIL.__version__,
    "pyarrow": pa.__version__,
}


def save(name, arrays):
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, HERE / name, metadata=VERSIONS)
    print(name, (HERE / name).stat().st_size)


def picture(height, width, seed):
    """Smooth colours, one hard edge and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 100 * np.sin(x / (3 + c) + seed) * np.cos(y / (4 + c)) for c in range(3)]
    levels = np.stack(waves, -1) + 60 * (x > y)[..., None] + rng.normal(0, 12, (height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


def transforms():
    out = {}
    source = picture(37, 48, 1)
    pil = Image.fromarray(source)
    out["source"] = source
    for name, mode in [("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)]:
        for h, w in [(20, 31), (74, 96), (90, 20), (37, 20), (224, 224)]:
            if (h, name) != (224, "bilinear"):
                out[f"resize.{name}.{h}x{w}"] = np.asarray(pil.resize((w, h), mode))
        box = TF.resized_crop(pil, 5, 7, 23, 31, [32, 32], TF.InterpolationMode(name), antialias=True)
        out[f"resized_crop.{name}"] = np.asarray(box)
    for size, side in [(40, 32), (35, 32), (33, 28), (64, 56)]:
        fitted = TF.center_crop(TF.resize(pil, size, TF.InterpolationMode.BICUBIC), side)
        out[f"fit.{size}.{side}"] = np.asarray(fitted)
        tall = TF.center_crop(TF.resize(pil.transpose(Image.TRANSPOSE), size, TF.InterpolationMode.BICUBIC), side)
        out[f"fit_tall.{size}.{side}"] = np.asarray(tall)
    small = picture(12, 12, 2)
    out["small"] = small
    for mode, name in [("reflect", "reflect"), ("constant", "zero")]:
        padded = TF.pad(Image.fromarray(small), 4, fill=0, padding_mode=mode)
        for top, left in [(0, 0), (8, 8), (3, 6), (4, 4), (8, 1)]:
            out[f"pad.{name}.{top}.{left}"] = np.asarray(TF.crop(padded, top, left, 12, 12))
    out["flip"] = np.asarray(TF.hflip(pil))
    for factor in [0.0, 0.3, 0.61, 1.0, 1.37, 1.9]:
        out[f"brightness.{factor}"] = np.asarray(TF.adjust_brightness(Image.fromarray(small), factor))
        out[f"contrast.{factor}"] = np.asarray(TF.adjust_contrast(Image.fromarray(small), factor))
        out[f"saturation.{factor}"] = np.asarray(TF.adjust_saturation(Image.fromarray(small), factor))

    # Moments of the sampled regions: top, left, height, width, relative area, log ratio.
    torch.manual_seed(0)
    for h, w in [(60, 40), (20, 90), (32, 32)]:
        image, rows = torch.zeros(3, h, w), []
        for _ in range(40000):
            i, j, a, b = T.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            rows.append([i, j, a, b, a * b / (h * w), math.log(b / a)])
        rows = np.array(rows)
        out[f"region.{h}x{w}"] = np.stack([rows.mean(0), rows.std(0)])
    save("transforms.safetensors", out)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode():
    out = {}

    def add(name, data):
        out[f"{name}.file"] = np.frombuffer(data, np.uint8)
        out[f"{name}.rgb"] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    rgb = Image.fromarray(picture(33, 41, 3))
    add("jpeg_420", encode(rgb, "JPEG", quality=90))
    add("jpeg_444", encode(rgb, "JPEG", quality=90, subsampling=0))
    add("jpeg_progressive", encode(rgb, "JPEG", quality=90, progressive=True))
    add("jpeg_restart", encode(rgb, "JPEG", quality=90, restart_marker_blocks=2))
    add("jpeg_grey", encode(rgb.convert("L"), "JPEG", quality=90))
    add("jpeg_cmyk", encode(rgb.convert("CMYK"), "JPEG", quality=95))
    exif = Image.Exif()
    exif[0x0112] = 6
    add("jpeg_rotated", encode(rgb, "JPEG", quality=90, exif=exif))
    add("png_rgb", encode(rgb, "PNG"))
    add("png_grey", encode(rgb.convert("L"), "PNG"))
    alpha = Image.fromarray(picture(33, 41, 4)[..., 0])
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    add("png_rgba", encode(rgba, "PNG"))
    add("png_grey_alpha", encode(rgba.convert("LA"), "PNG"))
    add("png_palette", encode(rgb.quantize(17), "PNG"))
    add("png_palette_transparent", encode(rgb.quantize(17), "PNG", transparency=3))
    add("png_bits", encode(rgb.convert("1"), "PNG"))
    save("decode.safetensors", out)


def view():
    out = {}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    x = torch.from_numpy(np.stack([picture(32, 32, s) for s in (5, 6)])).permute(0, 3, 1, 2)
    out["x"] = x.contiguous().numpy()
    for img in (32, 40, 57, 24, 11):
        levels = x.double() / 255
        if img != 32:
            levels = F.interpolate(levels, (img, img), mode="bicubic", align_corners=False, antialias=img < 32)
        y = (levels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        out[f"y.{img}"] = y.float().numpy()
    save("view.safetensors", out)


def parquet():
    folder = HERE / "parquet"
    folder.mkdir(exist_ok=True)
    names = [f"kind{i}" for i in range(5)]
    features = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("img", kind), ("label", pa.int64())], {"huggingface": json.dumps({"info": {"features": features}})}
    )
    seed = 100
    hashes = {}
    for name, labels in [
        ("train-00000-of-00002", [0, 1, 2]),
        ("train-00001-of-00002", [3, 4, 0, 1]),
        ("test-00000-of-00001", [4, 2]),
    ]:
        rows = []
        for label in labels:
            pixels = picture(32, 32, seed)
            rows.append({"img": {"bytes": encode(Image.fromarray(pixels), "PNG"), "path": None}, "label": label})
            hashes.setdefault(name.split("-")[0], []).append(hashlib.sha256(pixels.tobytes()).hexdigest())
            seed += 1
        pq.write_table(
            pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet", compression="snappy", row_group_size=2
        )
    (folder / "sha256.json").write_text(json.dumps(hashes, indent=1) + "\n")


def real(shared):
    out = {}
    rows = [0, 1, 999, 1000, 25000, 49999]
    for split, picks in [("train", rows), ("test", [0, 9999])]:
        table = pq.read_table(shared / "cifar100" / f"{split}-00000-of-00001.parquet")
        out[f"cifar100.{split}.rows"] = np.array(picks, np.int64)
        out[f"cifar100.{split}.labels"] = np.array([table["fine_label"][i].as_py() for i in picks], np.int64)
        pixels = [np.asarray(Image.open(io.BytesIO(table["img"][i]["bytes"].as_py())).convert("RGB")) for i in picks]
        digests = [hashlib.sha256(p.tobytes()).digest() for p in pixels]
        out[f"cifar100.{split}.sha256"] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    # 64 pixels of each photograph: as decoded, and as resized to 248 and cropped to 224.
    rng = np.random.default_rng(0)
    files = sorted((shared / "imagenet-sample").glob("*.JPEG"))
    out["photo.sha256"] = np.frombuffer(hashlib.sha256("\n".join(f.name for f in files).encode()).digest(), np.uint8)
    decoded, fitted = [], []
    for file in files:
        image = Image.open(file).convert("RGB")
        ys, xs = rng.integers(0, image.height, 64), rng.integers(0, image.width, 64)
        decoded.append(np.concatenate([np.stack([ys, xs], 1), np.asarray(image)[ys, xs]], 1))
        image = TF.center_crop(TF.resize(image, 248, TF.InterpolationMode.BICUBIC), 224)
        ys, xs = rng.integers(0, 224, 64), rng.integers(0, 224, 64)
        fitted.append(np.concatenate([np.stack([ys, xs], 1), np.asarray(image)[ys, xs]], 1))
    out["photo.decoded"] = np.array(decoded, np.int32)
    out["photo.fitted"] = np.array(fitted, np.int32)
    save("real.safetensors", out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--real"]:
        real(pathlib.Path(sys.argv[2]))
    else:
        transforms()
        decode()
        view()
        parquet()
