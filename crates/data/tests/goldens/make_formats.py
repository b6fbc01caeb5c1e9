"""Pictures of every supported format, and Pillow's decoding of them: formats.safetensors.

    python make_formats.py

Needs numpy, pillow, imagecodecs (for a JPEG in YCCK) and safetensors. `NAME.file` are a file's bytes, `NAME.rgb` what
`Image.open(..).convert("RGB")` gives, after `ImageOps.exif_transpose` for the names with `exif`. A 16-bit picture is
given as the upper bytes of its samples, since Pillow's own conversion of 16-bit grey clips instead of scaling in some
versions. The pictures are made up here.
"""

import io
import pathlib

import imagecodecs
import numpy as np
import PIL
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent


def picture(height, width, seed):
    """Smooth colours with some noise; kept soft, since chroma is stored at half the size in places."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 90 * np.sin(x / (6 + c) + seed) * np.cos(y / (7 + c)) for c in range(3)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 3, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(image, **how):
    out = io.BytesIO()
    image.save(out, **how)
    return out.getvalue()


def main():
    arrays = {}

    def put(name, data, rgb=None, exif=False):
        image = Image.open(io.BytesIO(data))
        if rgb is None:
            rgb = np.asarray((ImageOps.exif_transpose(image) if exif else image).convert("RGB"))
        arrays[f"{name}.file"] = np.frombuffer(data, np.uint8)
        arrays[f"{name}.rgb"] = np.ascontiguousarray(rgb)

    rgb = picture(29, 38, 1)
    image = Image.fromarray(rgb)
    rgba = Image.fromarray(np.dstack([rgb, np.linspace(0, 255, 29 * 38).reshape(29, 38).astype(np.uint8)]))
    grey, palette, bits = image.convert("L"), image.quantize(64), image.convert("1")
    put("webp_lossless", encoded(image, format="WEBP", lossless=True))
    put("webp_lossless_alpha", encoded(rgba, format="WEBP", lossless=True, exact=True))
    put("webp_lossy", encoded(image, format="WEBP", quality=90))
    put("webp_lossy_alpha", encoded(rgba, format="WEBP", quality=90))
    put(
        "webp_animated",
        encoded(image, format="WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - rgb)]),
    )
    put("bmp_rgb", encoded(image, format="BMP"))
    put("bmp_grey", encoded(grey, format="BMP"))
    put("bmp_palette", encoded(palette, format="BMP"))
    put("bmp_bits", encoded(bits, format="BMP"))
    put("gif", encoded(palette, format="GIF"))
    put("gif_grey", encoded(grey, format="GIF"))
    put(
        "gif_animated",
        encoded(palette, format="GIF", save_all=True, append_images=[Image.fromarray(255 - rgb).quantize(64)]),
    )
    put("gif_interlaced", encoded(palette, format="GIF", interlace=1))
    for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        put(f"tiff_{compression}", encoded(image, format="TIFF", compression=compression))
    put("tiff_grey", encoded(grey, format="TIFF"))
    put("tiff_bits", encoded(bits, format="TIFF"))
    put("tiff_rgba", encoded(rgba, format="TIFF"))
    put("tiff_cmyk", encoded(image.convert("CMYK"), format="TIFF"))
    put("jpeg_cmyk", encoded(image.convert("CMYK"), format="JPEG", quality=95))
    ink = np.asarray(image.convert("CMYK"))
    put("jpeg_ycck", imagecodecs.jpeg8_encode(255 - ink, level=95, colorspace="CMYK", outcolorspace="YCCK"))
    put("png_bits", encoded(bits, format="PNG"))
    put("png_palette16", encoded(image.quantize(16), format="PNG", bits=4))
    put("png_palette_transparent", encoded(palette, format="PNG", transparency=3))
    put("png_interlaced_grey_alpha", encoded(rgba.convert("LA"), format="PNG"))
    wide = np.random.default_rng(2).integers(0, 1 << 16, (17, 23), dtype=np.uint16)
    put(
        "png_grey16",
        encoded(Image.fromarray(wide), format="PNG"),
        np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, -1),
    )
    put(
        "tiff_grey16",
        encoded(Image.fromarray(wide), format="TIFF"),
        np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, -1),
    )
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        put(f"exif_jpeg_{orientation}", encoded(image, format="JPEG", quality=95, subsampling=0, exif=exif), exif=True)
    for format in ["PNG", "WEBP", "TIFF"]:
        exif = Image.Exif()
        exif[0x0112] = 6
        how = {"lossless": True} if format == "WEBP" else {}
        put(f"exif_{format.lower()}_6", encoded(image, format=format, exif=exif, **how), exif=True)
    save_file(arrays, HERE / "formats.safetensors", metadata={"pillow": PIL.__version__, "numpy": np.__version__})
    print("formats.safetensors", (HERE / "formats.safetensors").stat().st_size, len(arrays) // 2)


if __name__ == "__main__":
    main()
