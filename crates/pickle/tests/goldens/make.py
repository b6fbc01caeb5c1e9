"""Small files of torch.save in all its forms, and what torch.load reads from them. Needs torch; writes *.pt and
expected.json beside itself.

expected.json lists cases: files that hold the same, their dictionaries of tensors (the places are written down here by
hand, not found by a program), the one to take by default, and per dictionary the tensors in order as [name, dtype,
shape, bytes], the bytes row-major and little-endian in hexadecimal, as torch.load gives them. Files and places that are
`refused` carry a part of the message.
"""

import argparse
import collections
import io
import json
import pathlib
import pickle
import platform
import warnings
import zipfile

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
OrderedDict = collections.OrderedDict
warnings.simplefilter("ignore")
torch.manual_seed(0)
for old in [*HERE.glob("*.pt"), *HERE.glob("*.pt2")]:
    old.unlink()

# Per case: its files, the place taken by default, [place, tensors] in order, places that are refused.
cases = []
# Per file that is refused as a whole: a part of the message.
refused = {}


def short_source(_):
    """Old files carry the modules' source text; here a short one stands for it."""
    return ["class Module: ...\n"], 1, "module.py"


torch.serialization.get_source_lines_and_file = short_source


def describe(tensors):
    rows = []
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        raw = bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""
        rows.append([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), raw.hex()])
    return rows


def follow(value, place):
    for key in filter(None, place.split(".")):
        if isinstance(value, (list, tuple)):
            value = value[int(key)]
        else:
            value = value[key] if isinstance(value, dict) else getattr(value, key)
    if isinstance(value, nn.Module):
        return value.state_dict()
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}


def case(files, default, places, kinds=()):
    """Notes what torch.load reads at those places, the same from each of the files."""
    read = []
    for file in files:
        value = torch.load(HERE / file, map_location="cpu", weights_only=False)
        read.append([[place, describe(follow(value, place))] for place in places])
    assert all(sections == read[0] for sections in read)
    cases.append({"files": files, "default": default, "sections": read[0], "refused": list(kinds)})


def save(name, value, default="", places=("",), containers=("zip", "legacy"), protocols=(2,), repacked=(), kinds=()):
    files = []
    for container in containers:
        for protocol in protocols:
            file = f"{name}.{container}.pt" if len(protocols) == 1 else f"{name}{protocol}.{container}.pt"
            torch.save(value, HERE / file, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
            files.append(file)
    case(files, default, places, kinds)
    # torch.load refuses compressed records; it has read the same ones before they were packed again.
    for file, options in repacked:
        repack(files[0], file, **options)
        cases[-1]["files"].append(file)


def repack(source, target, change=lambda name, data: data, folder="other name", method=zipfile.ZIP_STORED, **options):
    """Packs an archive again with Python's zipfile, records changed or left out (None)."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w", method) as new:
        for info in old.infolist():
            name = info.filename.split("/", 1)[1]
            data = change(name, old.read(info))
            if data is not None:
                with new.open(f"{folder}/{name}" if folder else name, "w", **options) as record:
                    record.write(data)


def ramp(*shape, dtype=torch.float32, start=0.0):
    count = torch.Size(shape).numel()
    return (torch.arange(count) + start).reshape(shape).to(dtype)


class Tagged(torch.Tensor):
    """A subclass: torch writes `_rebuild_from_type_v2`."""


class Average:
    """An object that keeps weights in attributes."""

    def __init__(self, shadow):
        self.decay, self.shadow = 0.999, shadow


class Slots:
    __slots__ = ("shadow",)


class Options(dict):
    """A dictionary of another class."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.act = None
        self.register_buffer("index", torch.arange(4))
        self.register_buffer("mask", torch.ones(2, dtype=torch.bool), persistent=False)
        self.register_buffer("absent", None)
        self.register_parameter("bias", None)
        self.gamma = nn.Parameter(torch.full((3,), 1e-5))
        self.extra = {"not part of it": torch.ones(1)}


DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
]

# Element types, at their limits.
dtypes = OrderedDict(
    (str(d).removeprefix("torch."), ramp(2, 3, dtype=d, start=-2.0 if d.is_signed else 250)) for d in DTYPES
)
dtypes["bool"] = torch.tensor([True, False, True])
dtypes["special"] = torch.tensor([float("inf"), -float("inf"), float("nan"), -0.0, 1e-45])
dtypes["limits"] = torch.tensor([-(2**63), 2**63 - 1])
save("dtypes", dtypes)

# Layouts.
base = ramp(4, 6)
tied = ramp(3)
layouts = OrderedDict(
    whole=base,
    rows=base[1:3],
    column=base[:, 2],
    transposed=base.t(),
    steps=base[::2, 1::3],
    channels_last=ramp(2, 3, 4, 5).to(memory_format=torch.channels_last),
    channels_last_1x1=ramp(4, 3, 1, 1).to(memory_format=torch.channels_last),
    channels_last_3d=ramp(2, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d),
    permuted=ramp(2, 3, 4, dtype=torch.int16).permute(2, 0, 1),
    bytes_transposed=ramp(3, 5, dtype=torch.uint8).t(),
    doubles_transposed=ramp(3, 2, dtype=torch.float64).t(),
    expanded=ramp(3, 1).expand(3, 4),
    repeated=torch.tensor(7.0).expand(2, 2),
    windows=ramp(6).unfold(0, 3, 1),
    scalar=torch.tensor(1.5),
    scalar_view=base[3, 5],
    empty=torch.empty(0),
    empty_rows=torch.empty(0, 3),
    empty_view=base[4:],
    ones=torch.ones(1, 1, 1),
    tied=tied,
    tied_again=tied,
    reshaped=tied.view(1, 3, 1),
)
save("layouts", layouts, repacked=[("deflated.pt", {"method": zipfile.ZIP_DEFLATED})])

# Parameters, with attributes, of a subclass; other values beside the tensors.
parameter = nn.Parameter(ramp(2, 2))
attributed = nn.Parameter(ramp(3), requires_grad=False)
attributed.origin = "here"
save(
    "parameters",
    {"weight": parameter, "attributed": attributed, "tagged": ramp(2).as_subclass(Tagged), 3: ramp(1), "note": "x"},
    repacked=[("zip64.pt", {"folder": "a/b", "force_zip64": True}), ("flat.pt", {"folder": ""})],
)

# Prefixes stay.
torch.manual_seed(1)
small = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
without = {"change": lambda name, data: None if name == "byteorder" else data}
save("parallel", nn.DataParallel(small).state_dict(), containers=["zip"], repacked=[("no_byteorder.pt", without)])
save("torchcompile", OrderedDict((f"_orig_mod.{k}", v) for k, v in small.state_dict().items()), containers=["legacy"])

# A training checkpoint.
optimizer = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
small(torch.ones(4, 2)).sum().backward()
optimizer.step()
checkpoint = {
    "epoch": 12,
    "arch": "resnet",
    "args": argparse.Namespace(
        lr=0.1, mean=[0.5, 0.4], nothing=None, path=pathlib.PurePosixPath("a/b"), big=2**80, minus=-1, blob=b"\0\xff"
    ),
    "optimizer": optimizer.state_dict(),
    "state_dict": small.state_dict(),
    "state_dict_ema": {k: v * 2 for k, v in small.state_dict().items()},
    "metric": __import__("numpy").float64(81.2),
    "shape": torch.Size([1, 2]),
    "names": {"a", "b"},
    "frozen": frozenset("c"),
    "device": torch.device("cpu"),
    "counts": collections.Counter("abca"),
    "dtype": torch.float16,
}
save("checkpoint", checkpoint, "state_dict_ema", ("state_dict", "state_dict_ema"))
del checkpoint["optimizer"], checkpoint["state_dict"]
checkpoint["model"] = nn.Linear(2, 1)
save("protocol", checkpoint, "state_dict_ema", ("state_dict_ema", "model"), protocols=(3, 4, 5))

# Deeper, and which one is meant.
weights, others = {"w": ramp(2), "b": ramp(1)}, {"w": ramp(2, start=5.0), "b": ramp(1)}
few = {"w": ramp(2, start=9.0)}
one = {"containers": ["legacy"]}
save(
    "nested",
    {"info": 1, "checkpoint": {"lr": 0.1, "weights": weights, "few": few}},
    "checkpoint.weights",
    ("checkpoint.weights", "checkpoint.few"),
    **one,
)
save("lists", (few, [others, {"model": weights, "x": few}, None]), None, ("0", "1.0", "1.1.model", "1.1.x"), **one)
save(
    "model",
    {"lr": torch.tensor(0.1), "optimizer": {**weights, "c": ramp(1)}, "model": weights},
    "model",
    ("", "optimizer", "model"),
    **one,
)
save(
    "within",
    {"model_ema": {"module": weights, "few": few}, "model": others},
    "model_ema.module",
    ("model_ema.module", "model_ema.few", "model"),
    **one,
)
save(
    "absent",
    {"state_dict_ema": None, "model": others, "state_dict": weights},
    "state_dict",
    ("model", "state_dict"),
    **one,
)
save("two", {"student": weights, "teacher": others}, None, ("student", "teacher"), **one)
save("alias", {"generator": weights, "again": weights, "few": few}, "generator", ("generator", "again", "few"), **one)
slots = Slots()
slots.shadow = weights
save(
    "objects",
    {"average": Average(few), "slots": slots, "options": Options(w=ramp(2), inner=Options(v=ramp(1)))},
    "slots.shadow",
    ("average.shadow", "slots.shadow", "options", "options.inner"),
)
loop = {"model": weights}
loop["self"] = loop
loop["list"] = [loop, weights]
save("loop", loop, "model", ("model", "list.1"))

# Whole modules.
torch.manual_seed(2)
block = Block()
model = nn.Sequential(OrderedDict(stem=nn.Conv2d(2, 2, 1, bias=False), block=block, act=nn.ReLU(), again=block))
save("module", model)
save("parallel_module", nn.DataParallel(model))
save("modules", {"epoch": 1, "ema": block, "model": nn.Linear(2, 1)}, "ema", ("ema", "model"), **one)

# Kinds that are refused where they are asked for, and only there.
kinds = {
    "fine": weights,
    "complex": {"w": torch.ones(2, dtype=torch.complex64)},
    "float8": {"w": torch.ones(2).to(torch.float8_e4m3fn)},
    "uint16": {"w": torch.ones(2, dtype=torch.uint16)},
    "quantised": {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
    "sparse": {"w": torch.eye(2).to_sparse()},
    "sparse_csr": {"w": torch.eye(2).to_sparse_csr()},
    "meta": {"w": torch.empty(2, device="meta")},
    "negative": {"w": torch.tensor([1 + 2j]).conj().imag},
}
save("kinds", kinds, "fine", ("fine",), containers=["zip"], kinds=[kind for kind in kinds if kind != "fine"])
# torch.load fails on the old container's float8 and uint16, which torch.save writes.
torch.save(kinds, HERE / "kinds.legacy.pt", _use_new_zipfile_serialization=False)
cases[-1]["files"].append("kinds.legacy.pt")
torch.save(ramp(2), HERE / "tensor.zip.pt")
refused["tensor.zip.pt"] = "a single tensor without a name"
torch.save({"epoch": 1}, HERE / "nothing.legacy.pt", _use_new_zipfile_serialization=False)
refused["nothing.legacy.pt"] = "a dictionary of other things"

# An archive without checksums.
torch.serialization.set_crc32_options(False)
save("no_checksums", {"w": ramp(2, 3)}, containers=["zip"])
torch.serialization.set_crc32_options(True)


# Forms that only older versions wrote: parts of storages, CUDA storage types, tensors and parameters before 0.4, Python
# 2's OrderedDict.
class Old(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, tuple) and value[:1] == ("storage",):
            return value
        return None

    def reducer_override(self, value):
        if isinstance(value, Call):
            return value.function, value.arguments, *value.state
        if isinstance(value, OrderedDict):
            return OrderedDict, ([[k, v] for k, v in value.items()],)
        return NotImplemented


class Call:
    def __init__(self, function, *arguments, state=()):
        self.function, self.arguments, self.state = function, arguments, state


def old(name, value, keys):
    with open(HERE / name, "wb") as file:
        for part in (
            0x1950A86A20F9469CFC6C,
            1001,
            {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
        ):
            pickle.dump(part, file, protocol=2)
        buffer = io.BytesIO()
        Old(buffer, protocol=2).dump(value)
        file.write(buffer.getvalue())
        pickle.dump(list(keys), file, protocol=2)
        for tensor in keys.values():
            file.write(tensor.numel().to_bytes(8, "little") + bytes(tensor.view(torch.uint8).tolist()))


def part(key, start, count):
    return ("storage", torch.FloatStorage, key, "cuda:0", 6, (f"{key}-{start}", start, count))


def rebuilt(storage, offset, size, stride):
    return Call(torch._utils._rebuild_tensor, storage, offset, size, stride)


old(
    "old.pt",
    OrderedDict(
        whole=rebuilt(("storage", torch.FloatStorage, "1", "cpu", 6, None), 0, (2, 3), (3, 1)),
        part=rebuilt(part("1", 2, 4), 1, (3,), (1,)),
        transposed=rebuilt(part("1", 1, 4), 0, (2, 2), (1, 2)),
    ),
    {"1": ramp(6)},
)
case(["old.pt"], "", [""])

# Refused as a whole.
repack("parallel.zip.pt", "big.pt", lambda name, data: b"big" if name == "byteorder" else data)
refused["big.pt"] = "big-endian"
data = (HERE / "nothing.legacy.pt").read_bytes()
(HERE / "big_legacy.pt").write_bytes(data.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
refused["big_legacy.pt"] = "big-endian"
linear = nn.Linear(2, 2).eval()
torch.jit.save(torch.jit.script(linear), HERE / "whole.pt")
torch.export.save(torch.export.export(linear, (torch.ones(1, 2),)), HERE / "whole.pt2")
# Without the code and the graph, which name the paths of the machine.
repack("whole.pt", "script.pt", lambda name, data: None if name.startswith("code/") else data)
repack("whole.pt2", "export.pt2", lambda name, data: None if name.startswith(("data/", "models/")) else data)
for whole in HERE.glob("whole.*"):
    whole.unlink()
refused["script.pt"] = "TorchScript"
refused["export.pt2"] = "PT2 package"
with torch.package.PackageExporter(HERE / "package.pt") as package:
    package.save_pickle("weights", "weights.pkl", weights)
refused["package.pt"] = "torch.package"
(HERE / "plain.pt").write_bytes(pickle.dumps({"w": [1.0]}, protocol=4))
refused["plain.pt"] = "a pickle that torch.save did not write"

versions = {"torch": torch.__version__, "python": platform.python_version()}
rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
(HERE / "expected.json").write_text(
    f'{{"versions": {json.dumps(versions)},\n"refused": {json.dumps(refused)},\n"cases": [\n{rows}\n]}}\n'
)
