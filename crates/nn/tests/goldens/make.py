"""Golden values of the initialisers, from PyTorch and timm. Needs torch, timm and safetensors; writes init.safetensors
beside itself."""

import math
import pathlib

import timm
import torch
from safetensors.torch import save_file
from timm.layers import lecun_normal_
from torch import nn
from torch.nn import init

SEED = 1234
# PyTorch draws fewer than 16 normal numbers one by one, more of them in blocks.
SHAPES = [(16, 3, 3, 3), (24, 10), (5, 3), (2, 3, 4)]
FILLS = {
    "normal": lambda t: init.normal_(t, std=0.7),
    "uniform": lambda t: init.uniform_(t, -0.3, 0.3),
    "trunc_normal": lambda t: init.trunc_normal_(t, std=0.02),
    "wide_trunc_normal": lambda t: init.trunc_normal_(t, std=1.0),
    "lecun_normal": lecun_normal_,
    "torch_default": lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)),
    "kaiming_normal_fan_out": lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
    "xavier_uniform": init.xavier_uniform_,
}

golden = {}
for name, fill in FILLS.items():
    torch.manual_seed(SEED)
    for i, shape in enumerate(SHAPES):
        golden[f"{name}/{i}"] = torch.empty(shape)
        fill(golden[f"{name}/{i}"])
# Whole layers: the weight first, then the bias, from one stream.
torch.manual_seed(SEED)
for name, layer in [("linear", nn.Linear(7, 5)), ("conv", nn.Conv2d(4, 6, 3, groups=2))]:
    golden[f"{name}.weight"], golden[f"{name}.bias"] = layer.weight.detach(), layer.bias.detach()
save_file(
    golden,
    pathlib.Path(__file__).parent / "init.safetensors",
    {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "seed": str(SEED),
    },
)
