"""Writes digits.gz from scikit-learn's copy of the handwritten digits, or compares the two.

    python make_digits.py            writes digits.gz beside this script
    python make_digits.py --check    exits with 1 if digits.gz holds anything else

A record is 64 ink values (0..16, rows from the top) and one label (0..9), one byte each. The compressed bytes are
reproducible for one version of zlib; the check compares what they unpack to.
"""

import gzip
import io
import pathlib
import sys

import numpy as np
from sklearn.datasets import load_digits

FILE = pathlib.Path(__file__).with_name("digits.gz")


def records() -> bytes:
    digits = load_digits()
    table = np.concatenate([digits.data, digits.target[:, None]], axis=1)
    assert table.shape == (1797, 65) and (table == table.astype(np.uint8)).all()
    return table.astype(np.uint8).tobytes()


def packed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        same = gzip.decompress(FILE.read_bytes()) == records()
        print("digits.gz agrees with scikit-learn" if same else "digits.gz differs from scikit-learn's digits")
        sys.exit(0 if same else 1)
    FILE.write_bytes(packed(records()))
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")
