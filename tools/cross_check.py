#!/usr/bin/env python3
"""Compiles the shim's C++ for aarch64, to see that nothing in it needs an x86-64 processor. Nothing is linked or run.

    python3 tools/cross_check.py [--compiler aarch64-linux-gnu-g++]

Needs libtorch (`make libtorch`), the bridge's generated headers (`make build`) and a cross compiler (Debian's
g++-aarch64-linux-gnu).
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "crates" / "shim" / "src"
LIBTORCH = ROOT / ".libtorch" / "torch" / "include"
FLAGS = ["-std=c++17", "-fopenmp", "-DNDEBUG", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]


def generated():
    """The newest headers that cxx has written for the bridge."""
    found = sorted(
        (ROOT / "target").glob("*/build/heterodyne-shim-*/out/cxxbridge/include"), key=lambda p: p.stat().st_mtime
    )
    if not found:
        sys.exit("the bridge's headers are missing: make build")
    return found[-1]


def compile_one(compiler, source, includes):
    """The compiler's complaints. Kernels become machine code, so that assembler constraints count; elsewhere reading is
    enough."""
    how = ["-O1", "-c", "-o", os.devnull] if "simd/levels.h" in source.read_text() else ["-fsyntax-only"]
    result = subprocess.run([compiler, *FLAGS, *includes, *how, str(source)], capture_output=True, text=True)
    return result.stderr if result.returncode else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++")
    compiler = parser.parse_args().compiler
    if shutil.which(compiler) is None:
        sys.exit(f"{compiler} is missing: on Debian, apt-get install g++-aarch64-linux-gnu")
    if not LIBTORCH.is_dir():
        sys.exit("libtorch is missing: make libtorch")
    bridge = generated()
    includes = [f"-I{SOURCES}", f"-I{SOURCES}/ranks/declared", f"-I{bridge}", f"-I{bridge.parent / 'crate'}"]
    includes += [
        flag for folder in (LIBTORCH, LIBTORCH / "torch/csrc/api/include") for flag in ("-isystem", str(folder))
    ]
    sources = sorted(SOURCES.rglob("*.cc"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = [
            text for text in pool.map(lambda source: compile_one(compiler, source, includes), sources) if text
        ]
    if complaints:
        sys.exit("\n".join(complaints))
    print(f"{len(sources)} files compile with {compiler}")


if __name__ == "__main__":
    main()
