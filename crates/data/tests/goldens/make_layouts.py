"""Small datasets in the layouts of their authors: layouts/.

    python make_layouts.py

Needs numpy, scipy, pillow and datasets (Hugging Face). Everything in them is made up here.

    meta.mat, meta_plain.mat          ImageNet's table of synsets, as scipy writes MATLAB files, compressed and not
    cifar10/, cifar10_python3/        CIFAR's pickles: with Python 2's opcodes as the official files have, and with
                                      Python 3's
    cifar100/
    huggingface/                      what `Dataset.to_parquet` writes: columns `picture` and `kind` (text), and
                                      photographs of two sizes
    huggingface_small/                the same with images of one size and a ClassLabel, as validation/ and data/train-*
"""

import io
import pathlib
import pickle
import shutil
import struct

import datasets
import numpy as np
import scipy.io
from PIL import Image

HERE = pathlib.Path(__file__).parent / "layouts"


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2's strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, data):
        size = len(data)
        self.write(b"U" + bytes([size]) + data if size < 256 else b"T" + struct.pack("<i", size) + data)
        self.memoize(data)

    dispatch[bytes] = save_string


def python2(value):
    out = io.BytesIO()
    Python2Pickler(out, 2).dump(value)
    data = out.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    # Latin-1 is how Python 3 reads it; the text keys of the dictionary come out as bytes.
    pickle.loads(data, encoding="bytes")
    return data


def batch(rng, count, classes):
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), [int(i) % classes for i in rng.integers(0, 1000, count)]


def cifar():
    rng = np.random.default_rng(5)
    for name, dump in [("cifar10", python2), ("cifar10_python3", None)]:
        folder = HERE / name / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for i, file in enumerate(
            ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        ):
            data, labels = batch(rng, 2, 10)
            entry = {b"batch_label": b"batch", b"labels": labels, b"data": data, b"filenames": [b"a.png", b"b.png"]}
            if dump is None:
                # Every protocol, and keys as text in some.
                text = {key.decode(): value for key, value in entry.items()}
                (folder / file).write_bytes(pickle.dumps(text if i % 2 else entry, protocol=[2, 3, 4, 5, 4, 5][i]))
            else:
                (folder / file).write_bytes(dump(entry))
        names = [f"kind{i}" for i in range(10)]
        meta = {b"num_cases_per_batch": 2, b"label_names": [name.encode() for name in names], b"num_vis": 3072}
        (folder / "batches.meta").write_bytes(dump(meta) if dump else pickle.dumps({"label_names": names}, protocol=4))
    folder = HERE / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for file, count in [("train", 3), ("test", 2)]:
        data, labels = batch(rng, count, 100)
        entry = {b"fine_labels": labels, b"coarse_labels": [0] * count, b"data": data, b"filenames": [b"x.png"] * count}
        (folder / file).write_bytes(python2(entry))
    (folder / "meta").write_bytes(python2({b"fine_label_names": [f"fine{i}".encode() for i in range(100)]}))


def imagenet():
    synsets = np.zeros(
        (5, 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O"), ("children", "O")]
    )
    # The fifth is a group of the others, as in the real table.
    for row, wnid in enumerate(["n02119789", "n01440764", "n02100735", "n01443537", "n00001740"]):
        synsets[row, 0] = (
            row + 1,
            wnid,
            f"words of {wnid}, \u00e9t\u00e9",
            2 if row == 4 else 0,
            np.array([1, 2]) if row == 4 else np.array([]),
        )
    scipy.io.savemat(HERE / "meta.mat", {"synsets": synsets}, do_compression=True)
    scipy.io.savemat(HERE / "meta_plain.mat", {"other": np.arange(4.0), "synsets": synsets})


def picture(height, width, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def huggingface():
    features = datasets.Features({"kind": datasets.Value("string"), "picture": datasets.Image()})
    for split, kinds in [("train", ["owl", "cat", "owl", "dog"]), ("validation", ["dog", "cat"]), ("test", ["owl"])]:
        rows = {"kind": kinds, "picture": [picture(9 + i, 12, hash_of(split) + i) for i in range(len(kinds))]}
        folder = HERE / "huggingface" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    for path, labels in [
        ("data/train-00000-of-00002", [0, 1, 1]),
        ("data/train-00001-of-00002", [0]),
        ("validation/0000", [1, 0]),
    ]:
        rows = {"image": [picture(8, 8, 50 + i) for i in range(len(labels))], "label": labels}
        file = HERE / "huggingface_small" / f"{path}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(file))


def hash_of(text):
    return sum(text.encode())


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    cifar()
    imagenet()
    huggingface()
    print(sum(f.stat().st_size for f in HERE.rglob("*") if f.is_file()), "bytes")


if __name__ == "__main__":
    main()
