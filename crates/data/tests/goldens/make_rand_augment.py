"""Reference values for RandAugment's operations: timm's own functions on Pillow images, on a made-up picture.

    python make_rand_augment.py           writes rand_augment.safetensors

Needs timm, pillow, numpy and safetensors. Also kept: the arguments that timm gives to each operation at some
magnitudes.
"""

import json
from pathlib import Path

import numpy as np
import PIL
import timm
from PIL import Image
from safetensors.numpy import save_file
from timm.data import auto_augment as aa

FILL = (129, 124, 112)
HEIGHT, WIDTH = 23, 30
FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def picture():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [np.sin(0.3 * x + 0.1 * y), np.cos(0.2 * y) * np.sin(0.5 * x), ((x * 7 + y * 13) % 17) / 8.5 - 1]
    return (
        np.stack([40 + 30 * c + (50 + 20 * c) * wave for c, wave in enumerate(waves)], -1).clip(5, 240).astype(np.uint8)
    )


CASES = {
    "auto_contrast": [()],
    "equalize": [()],
    "invert": [()],
    "rotate": [(27.0,), (-13.7,), (90.0,)],
    "posterize": [(4,), (1,), (8,)],
    "solarize": [(30,), (0,), (256,)],
    "solarize_add": [(99,), (110,)],
    "color": [(0.19,), (1.81,)],
    "contrast": [(0.1,), (1.9,)],
    "brightness": [(0.3,), (1.7,)],
    "sharpness": [(0.1,), (1.81,)],
    "shear_x": [(0.27,), (-0.3,)],
    "shear_y": [(0.27,), (-0.11,)],
    "translate_x_rel": [(0.4,), (-0.13,)],
    "translate_y_rel": [(0.4,), (-0.13,)],
}
GEOMETRIC = {"rotate", "shear_x", "shear_y", "translate_x_rel", "translate_y_rel"}


def main():
    source = picture()
    out, cases = {"source": source}, []
    for name, arguments in CASES.items():
        for args in arguments:
            for filter_name, resample in FILTERS.items() if name in GEOMETRIC else [("bilinear", None)]:
                kwargs = dict(resample=resample, fillcolor=FILL) if resample is not None else {}
                result = getattr(aa, name)(Image.fromarray(source), *args, **kwargs)
                case = f"case{len(cases)}"
                out[case] = np.asarray(result)
                cases.append(dict(name=case, op=name, arg=float(args[0]) if args else None, filter=filter_name))
    flat = np.full((6, 6, 3), 77, np.uint8)
    out["flat"] = flat
    for name in ("auto_contrast", "equalize"):
        out[f"flat.{name}"] = np.asarray(getattr(aa, name)(Image.fromarray(flat)))
    # The sizes of the arguments; timm draws their signs.
    levels = {}
    for name in aa._RAND_INCREASING_TRANSFORMS:
        to_arg = aa.LEVEL_TO_ARG[name]
        levels[name] = {
            str(m): sorted({abs(a) for _ in range(40) for a in to_arg(m, {})}) if to_arg else []
            for m in (0.0, 3.3, 9.0, 10.0)
        }
    metadata = {
        "timm": timm.__version__,
        "pillow": PIL.__version__,
        "cases": json.dumps(cases),
        "levels": json.dumps(levels),
        "fill": json.dumps(FILL),
    }
    save_file(
        {k: np.ascontiguousarray(v) for k, v in out.items()},
        Path(__file__).with_name("rand_augment.safetensors"),
        metadata,
    )


if __name__ == "__main__":
    main()
