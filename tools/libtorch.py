#!/usr/bin/env python3
"""Puts libtorch where the build looks for it: <project>/.libtorch/torch.

A libtorch of the right version that LIBTORCH names is linked; otherwise PyTorch's wheel is installed there with pip,
without its Python dependencies. Only what the binary needs is fetched: two small NVIDIA libraries that libtorch_cpu
links against, and all of the CUDA libraries where this machine has an NVIDIA driver that is new enough for them. An
interrupted run leaves nothing half-made behind.

CUDA=1 in the environment (`make libtorch CUDA=1`) fetches the CUDA libraries without a driver too, for the image of a
container or the login node of a cluster; CUDA=0 leaves them out.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# What libtorch_cpu.so of the wheel links against even on a machine without a GPU.
CPU_LIBRARIES = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
# The wheels differ in their Python modules only, which are not used here, so one Python version serves all.
WHEEL = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]

# The CUDA of the wheel, and the oldest driver that runs it.
CUDA_VERSION, OLDEST_DRIVER = "13.0", 580
# Where the driver states its version.
DRIVER_FILES = [Path("/sys/module/nvidia/version"), Path("/proc/driver/nvidia/version")]

PROJECT = Path(__file__).resolve().parent.parent
VERSION = (PROJECT / "crates/shim/libtorch-version").read_text().strip()
HOME = PROJECT / ".libtorch"
PARTIAL = PROJECT / ".libtorch.partial"
COMPLETE = ".complete"


def fail(*lines: str) -> None:
    print("libtorch: " + "\n  ".join(lines), file=sys.stderr)
    sys.exit(1)


def version_in(root: Path) -> str | None:
    """The version of the libtorch in `root`, of a wheel or of an archive; None if it has none."""
    archive = root / "build-version"
    if archive.is_file():
        return archive.read_text().strip()
    wheel = root / "version.py"
    if wheel.is_file():
        found = re.search(r"^__version__ = '([^']+)'", wheel.read_text(), re.M)
        return found and found.group(1)
    return None


def right(version: str | None) -> bool:
    return version is not None and version.split("+")[0] == VERSION


def is_whole(root: Path) -> bool:
    return (root / "lib" / "libtorch_cpu.so").exists() and (root / "include" / "ATen" / "ATen.h").exists()


def driver_version() -> str | None:
    """The version of the NVIDIA driver, such as 580.65.06; None without a driver."""
    texts = [path.read_text() for path in DRIVER_FILES if path.is_file()]
    if not texts and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        texts = [subprocess.run(query, capture_output=True, text=True).stdout]
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", texts[0]) if texts else None
    return found and found.group(0)


def wants_cuda() -> bool:
    """Whether the CUDA libraries are needed: CUDA=1 or CUDA=0, or else whether there is a driver for them."""
    asked = os.environ.get("CUDA", "")
    if asked not in ("", "0", "1"):
        fail(f"CUDA={asked} is neither 0 nor 1.")
    if asked:
        return asked == "1"
    driver = driver_version()
    if driver and int(driver.split(".")[0]) < OLDEST_DRIVER:
        fail(
            f"the NVIDIA driver is {driver}; CUDA {CUDA_VERSION} of this libtorch needs {OLDEST_DRIVER} or newer.",
            "Nothing was downloaded. Do one of these and run the command again:",
            "- install a newer driver;",
            f"- set LIBTORCH to a libtorch {VERSION} for an older CUDA (PyTorch offers such wheels for pip);",
            "- do without the GPU: CUDA=0.",
        )
    return driver is not None


def has_cuda(root: Path) -> bool:
    return (root / "lib" / "libtorch_cuda.so").exists()


def link(root: Path) -> None:
    """Makes .libtorch/torch a link to the user's own libtorch."""
    version = version_in(root)
    if version is None:
        fail(
            f"LIBTORCH={root} holds no libtorch (neither version.py nor build-version).",
            "Unset LIBTORCH to have the right one installed here.",
        )
    if not right(version):
        fail(
            f"LIBTORCH={root} holds version {version}; {VERSION} is needed.",
            "Unset LIBTORCH to have it installed here, or point it to that version.",
        )
    if not is_whole(root):
        fail(f"LIBTORCH={root} is incomplete: lib/libtorch_cpu.so or include/ATen/ATen.h is missing.")
    if os.environ.get("CUDA") == "1" and not has_cuda(root):
        fail(f"LIBTORCH={root} is for CPUs only, and CUDA=1 asks for CUDA.")
    if (HOME / "torch").is_symlink() and (HOME / "torch").resolve() == root.resolve():
        return
    clear(PARTIAL)
    PARTIAL.mkdir()
    (PARTIAL / "torch").symlink_to(root.resolve(), target_is_directory=True)
    (PARTIAL / COMPLETE).write_text("linked\n")
    settle()
    print(f"libtorch: using {version} from LIBTORCH={root}")


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def settle() -> None:
    """The finished folder takes its place; until here the old one was untouched."""
    clear(HOME)
    PARTIAL.rename(HOME)


def pip(target: Path, *what: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--no-compile",
        "--target",
        str(target),
        "--upgrade",
        *WHEEL,
        *what,
    ]
    if subprocess.run(command).returncode != 0:
        fail(
            "pip could not install "
            + " ".join(w for w in what if not w.startswith("-"))
            + " (its own message is above).",
            "Without a network: put libtorch "
            + VERSION
            + " on this machine by other means and set LIBTORCH to its folder.",
        )


def cuda_requirements(target: Path) -> list[str]:
    """What the wheel itself declares of NVIDIA's libraries."""
    metadata = next(target.glob("torch-*.dist-info/METADATA")).read_text()
    lines = re.findall(r"^Requires-Dist: ([^;\n]+)", metadata, re.M)
    return [
        line.strip() for line in lines if re.match(r"(nvidia|cuda)-", line) and not line.startswith("cuda-bindings")
    ]


def install(cuda: bool) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        fail(
            f"pip is missing for {sys.executable}.",
            "Install it (Debian: apt install python3-pip), or set LIBTORCH to a libtorch " + VERSION + ".",
        )
    size = "about 0.6 GB to download, 1.2 GB on disk"
    if cuda:
        size = "with the CUDA libraries about 3 GB to download, 6 GB on disk"
    free = shutil.disk_usage(PROJECT).free
    if free < (8 if cuda else 2) * 10**9:
        fail(f"{free / 1e9:.1f} GB are free here and libtorch needs {size}.")
    print(f"libtorch: installing {VERSION} into {HOME.name}/ ({size})", flush=True)
    clear(PARTIAL)
    PARTIAL.mkdir()
    pip(PARTIAL, "--no-deps", f"torch=={VERSION}", *CPU_LIBRARIES)
    if cuda:
        pip(PARTIAL, *cuda_requirements(PARTIAL))
    if not right(version_in(PARTIAL / "torch")) or not is_whole(PARTIAL / "torch"):
        fail("the installed wheel is not what was expected; remove " + PARTIAL.name + " and try again.")
    (PARTIAL / COMPLETE).write_text("cuda\n" if cuda else "cpu\n")
    settle()
    print("libtorch: done")


def main() -> None:
    given = os.environ.get("LIBTORCH")
    # Cargo's own setting names the place itself.
    if given and os.path.abspath(given) != str(HOME / "torch"):
        return link(Path(given))
    state = (HOME / COMPLETE).read_text().strip() if (HOME / COMPLETE).is_file() else None
    usable = state in ("linked", "cpu", "cuda") and right(version_in(HOME / "torch")) and is_whole(HOME / "torch")
    if usable and (state == "cuda" or (state == "linked" and has_cuda(HOME / "torch"))):
        return
    cuda = wants_cuda()
    if usable and not cuda:
        return
    if state == "linked" and usable:
        print("libtorch: the linked one is for CPUs only, and CUDA is wanted; it is no longer used")
    install(cuda)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; nothing was changed. Run the same command again.")
    except OSError as error:
        fail(f"{error}")
