"""Golden values of the networks, from timm (and, for the networks for 32 px that timm lacks, from the definitions
below).

    python make.py [--weights FOLDER]

needs torch, timm, numpy and safetensors, and writes beside itself
    timm.safetensors      outputs, gradients and initial statistics
    parameters.txt        names and shapes of every state dict
    real.safetensors      logits of the real DeiT-Ti, only where FOLDER has its weights

Weights and images follow from a formula (`noise`, `fill`) that the tests repeat, so that none has to be stored.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

HERE = pathlib.Path(__file__).parent
CLASSES = 10
SAMPLES = 64
VERSIONS = {"torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__}


# ---- the formula


def noise(seed, count):
    """`count` values in [-1,1): an integer mixer applied to their index."""
    i = np.arange(count, dtype=np.uint32)
    h = i * np.uint32(0x9E3779B1) + np.uint32((seed * 0x85EBCA77) & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    h ^= h >> np.uint32(15)
    return h.astype(np.float64) / 2.0**31 - 1.0


def tensor(values, shape):
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def images(batch, img):
    return tensor(2.0 * noise(0, batch * 3 * img * img), (batch, 3, img, img))


def state(model):
    """Parameters and buffers in order, without the counters of batch norms."""
    return [(name, t) for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")]


def fill(model):
    for index, (name, t) in enumerate(state(model)):
        u = noise(index + 1, t.numel())
        kind = name.rsplit(".", 1)[-1]
        if kind == "running_var":
            u = 1.0 + 0.3 * u
        elif kind in ("running_mean", "bias", "beta"):
            u = 0.1 * u
        elif kind in ("cls_token", "pos_embed"):
            u = 0.5 * u
        elif t.numel() == t.shape[-1]:  # scales: norms, alpha, ls
            u = 0.8 + 0.3 * u
        else:
            u = u * math.sqrt(3.0 / math.prod(t.shape[1:]))
        t.copy_(tensor(u, t.shape))


def sample(t, count=SAMPLES):
    """`count` values at equal distances in the order of the indices, then the 2-norm of all."""
    flat = t.detach().reshape(-1)
    at = [j * flat.numel() // count for j in range(count)]
    return torch.cat([flat[at].double(), torch.linalg.vector_norm(flat.double()).reshape(1)]).float()


# ---- residual networks for 32 px, after He et al. 2016, section 4.2, with 1x1 convolutions on changing shortcuts


class Basic(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.downsample(x))


class CifarResNet(nn.Module):
    def __init__(self, depth, widths):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = nn.ReLU()
        for i in (1, 2, 3):
            blocks = [Basic(widths[i - 1], widths[i], min(i, 2))] + [
                Basic(widths[i], widths[i], 1) for _ in range((depth - 2) // 6 - 1)
            ]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[3], CLASSES)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x):
        return self.layer3(self.layer2(self.layer1(self.act1(self.bn1(self.conv1(x))))))

    def forward_head(self, x, pre_logits):
        return x.mean((2, 3))

    def forward(self, x):
        return self.fc(self.forward_features(x).mean((2, 3)))


# ---- the other networks for 32 px of the CRD benchmark: the structure, parameter names and initial values of
# RepDistiller's


class Headed(nn.Module):
    """Subclasses give `forward_features`, and name their classifier in `head`."""

    def forward_head(self, x, pre_logits):
        return x.mean((2, 3))

    def forward(self, x):
        return self.get_submodule(self.head)(self.forward_head(self.forward_features(x), True))

    def he_normal(self, classifier_std):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0, math.sqrt(2 / (m.out_channels * m.kernel_size[0] ** 2)))
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            if isinstance(m, nn.Linear):
                if classifier_std:
                    nn.init.normal_(m.weight, 0, classifier_std)
                nn.init.zeros_(m.bias)


class PreActivation(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if inputs != width:
            self.convShortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x):
        before = torch.relu(self.bn1(x))
        shortcut = self.convShortcut(before) if hasattr(self, "convShortcut") else x
        return shortcut + self.conv2(torch.relu(self.bn2(self.conv1(before))))


class WideResNet(Headed):
    head = "fc"

    def __init__(self, depth, widen):
        super().__init__()
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for i in (1, 2, 3):
            block = nn.Module()
            rest = [PreActivation(widths[i], widths[i], 1) for _ in range((depth - 4) // 6 - 1)]
            block.layer = nn.Sequential(PreActivation(widths[i - 1], widths[i], min(i, 2)), *rest)
            setattr(self, f"block{i}", block)
        self.bn1 = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], CLASSES)
        self.he_normal(None)

    def forward_features(self, x):
        x = self.block3.layer(self.block2.layer(self.block1.layer(self.conv1(x))))
        return torch.relu(self.bn1(x))

    def tapped(self):
        return [self.conv1, self.block1.layer, self.block2.layer, self.block3.layer]


class Vgg(Headed):
    head = "classifier"

    def __init__(self, depth, img):
        super().__init__()
        inputs = 3
        for i, width in enumerate((64, 128, 256, 512, 512)):
            layers = []
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            setattr(self, f"block{i}", nn.Sequential(*layers))
        self.classifier = nn.Linear(512, CLASSES)
        self.last_pool = img >= 64
        self.he_normal(0.01)

    def forward_features(self, x):
        x = self.block0(x)
        for block in (self.block1, self.block2, self.block3):
            x = block(nn.functional.max_pool2d(x, 2))
        return self.block4(nn.functional.max_pool2d(x, 2) if self.last_pool else x)

    def tapped(self):
        return [self.block1, self.block2, self.block3, self.block4]


class Shuffle(nn.Module):
    def forward(self, x, groups):
        return torch.cat([x[:, i :: x.shape[1] // groups] for i in range(x.shape[1] // groups)], 1)


class V1Block(nn.Module):
    def __init__(self, inputs, outputs, stride, groups=3):
        super().__init__()
        self.stride, self.groups = stride, 1 if inputs == 24 else groups
        outputs -= inputs if stride == 2 else 0
        width = outputs // 4
        self.conv1 = nn.Conv2d(inputs, width, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = Shuffle()(torch.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
        return torch.relu(torch.cat([y, nn.functional.avg_pool2d(x, 3, 2, 1)], 1) if self.stride == 2 else y + x)


class V2Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.halves, width = stride == 2, outputs // 2
        ways = (
            [[("dw", inputs), ("pw", inputs)], [("pw", inputs), ("dw", width), ("pw", width)]]
            if self.halves
            else [[], [("pw", width), ("dw", width), ("pw", width)]]
        )
        self.ways, number = [], 0
        for way in ways:
            numbers = []
            for kind, channels in way:
                number += 1
                conv = (
                    nn.Conv2d(channels, width, 1, bias=False)
                    if kind == "pw"
                    else nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
                )
                setattr(self, f"conv{number}", conv)
                setattr(self, f"bn{number}", nn.BatchNorm2d(conv.out_channels))
                numbers.append((number, kind == "pw"))
            self.ways.append(numbers)

    def forward(self, x):
        halves = [x, x] if self.halves else list(x.chunk(2, 1))
        for i, way in enumerate(self.ways):
            for number, activated in way:
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(halves[i]))
                halves[i] = torch.relu(y) if activated else y
        return Shuffle()(torch.cat(halves, 1), 2)


class ShuffleNet(Headed):
    head = "linear"

    def __init__(self, block, widths, head):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.act1 = nn.ReLU()
        inputs = 24
        for i, (width, count) in enumerate(zip(widths, (4, 8, 4)), 1):
            setattr(
                self,
                f"layer{i}",
                nn.Sequential(block(inputs, width, 2), *[block(width, width, 1) for _ in range(count - 1)]),
            )
            inputs = width
        if head:
            self.conv2 = nn.Conv2d(inputs, head, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(head)
        self.linear = nn.Linear(head or inputs, CLASSES)

    def forward_features(self, x):
        x = self.layer3(self.layer2(self.layer1(self.act1(self.bn1(self.conv1(x))))))
        return torch.relu(self.bn2(self.conv2(x))) if hasattr(self, "conv2") else x

    def tapped(self):
        return [self.act1, self.layer1, self.layer2, self.layer3]


class HalfBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        width = inputs * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x):
        return self.conv(x) + x if self.shortcut else self.conv(x)


class HalfMobileNetV2(Headed):
    head = "classifier"

    def __init__(self):
        super().__init__()
        unit = lambda inputs, outputs, kernel, stride: nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.conv1 = unit(3, 16, 3, 2)
        blocks, inputs = [], 16
        for t, c, n, s in [
            (1, 16, 1, 1),
            (6, 24, 2, 1),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]:
            rest = [HalfBlock(c // 2, c // 2, 1, t) for _ in range(n - 1)]
            blocks.append(nn.Sequential(HalfBlock(inputs, c // 2, s, t), *rest))
            inputs = c // 2
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = unit(inputs, 1280, 1, 1)
        self.classifier = nn.Sequential(nn.Linear(1280, CLASSES))
        self.he_normal(0.01)

    def forward_features(self, x):
        return self.conv2(self.blocks(self.conv1(x)))

    def tapped(self):
        return [self.blocks[i] for i in (1, 2, 4, 6)]


CRD = {
    **{
        f"wrn_{depth}_{widen}": lambda _, depth=depth, widen=widen: WideResNet(depth, widen)
        for depth in (16, 40)
        for widen in (1, 2)
    },
    "vgg8": lambda img: Vgg(1, img),
    "vgg13": lambda img: Vgg(2, img),
    "mobilenetv2_half": lambda _: HalfMobileNetV2(),
    "shufflenetv1": lambda _: ShuffleNet(V1Block, (240, 480, 960), None),
    "shufflenetv2": lambda _: ShuffleNet(V2Block, (116, 232, 464), 1024),
}
NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
CIFAR = {
    "resnet8": (8, NARROW),
    "resnet14": (14, NARROW),
    "resnet20": (20, NARROW),
    "resnet32": (32, NARROW),
    "resnet56": (56, NARROW),
    "resnet110": (110, NARROW),
    "resnet8x4": (8, WIDE),
    "resnet32x4": (32, WIDE),
}
# The two students of OFA-KD (Hao et al. 2023) and their widths.
OFA = {"swin_nano_patch4_window7_224": 64, "swin_pico_patch4_window7_224": 48}
NANO = dict(patch=2, dim=64, depth=4, heads=4)


# ---- models and their taps


def vit(img, patch, dim, depth, heads, kind=VisionTransformer):
    return kind(img_size=img, patch_size=patch, embed_dim=dim, depth=depth, num_heads=heads, num_classes=CLASSES)


def mixer(img, patch, dim, depth, **kwargs):
    return MlpMixer(img_size=img, patch_size=patch, embed_dim=dim, num_blocks=depth, num_classes=CLASSES, **kwargs)


def swin(img, patch, window, dim, depths, heads):
    return SwinTransformer(
        img_size=img,
        patch_size=patch,
        window_size=window,
        embed_dim=dim,
        depths=depths,
        num_heads=[heads * 2**i for i in range(4)],
        num_classes=CLASSES,
        drop_path_rate=0.0,
    )


def convnext(patch, dim, depths):
    return ConvNeXt(patch_size=patch, dims=[dim * 2**i for i in range(4)], depths=depths, num_classes=CLASSES)


def create(name, img, options):
    if name in CIFAR:
        return CifarResNet(*CIFAR[name])
    if name in CRD:
        return CRD[name](img)
    if name in OFA:
        return swin(img, 4, 7, OFA[name], [2, 2, 2, 2], 2)
    if options and name.startswith("swin"):
        return swin(img, **options)
    if options and name.startswith("convnext"):
        return convnext(**options)
    if "patch" in options or name.endswith("_nano"):
        sizes = {**NANO, **options}
        if "distilled" in name:
            return vit(img, **sizes, kind=VisionTransformerDistilled)
        if name.startswith(("vit", "deit")):
            return vit(img, **sizes)
        del sizes["heads"]
        return mixer(
            img,
            **sizes,
            **(dict(mlp_ratio=4, block_layer=ResBlock, norm_layer=Affine) if name.startswith("resmlp") else {}),
        )
    if name.startswith(("resnet", "mobilenet", "efficientnet")):
        model = timm.create_model(name, num_classes=CLASSES)
        if options.get("stem") == "cifar":
            if name.startswith("resnet"):
                model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
                nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
                model.maxpool = nn.Identity()
            else:
                model.conv_stem.stride = (1, 1)
        return model
    if name.startswith("convnext"):
        return timm.create_model(name, num_classes=CLASSES)
    if name.startswith("swin"):  # timm drops blocks at random by default
        return timm.create_model(name, num_classes=CLASSES, img_size=img, drop_path_rate=0.0)
    return timm.create_model(name, num_classes=CLASSES, img_size=img)


def tapped(name, model):
    if name in CIFAR:
        return [model.act1, model.layer1, model.layer2, model.layer3]
    if name in CRD:
        return model.tapped()
    if name.startswith("resnet"):
        return [model.layer1, model.layer2, model.layer3, model.layer4]
    if name.startswith("mobilenetv1"):
        return [model.blocks[i] for i in (1, 2, 3, 4)]
    if name.startswith(("mobilenet", "efficientnet")):
        return [model.blocks[1], model.blocks[2], model.blocks[4], model.bn2]
    if name.startswith("swin"):
        return list(model.layers)
    if name.startswith("convnext"):
        return list(model.stages)
    at = {24: (3, 7, 19, 23), 12: (1, 3, 9, 11), 8: (0, 2, 6, 7), 5: (0, 1, 3, 4), 4: (0, 1, 2, 3)}[len(model.blocks)]
    return [model.blocks[i] for i in at]


def stage(name, out):
    """A copy with the dimensions as the tests see them; those of a Swin are (B,H,W,C) in timm."""
    return (out.permute(0, 3, 1, 2) if name.startswith("swin") else out).clone()


def statistics(t):
    """Mean, standard deviation and mean magnitude. PyTorch's trunc_normal_ gives its lower bound once in 2^24 values, a
    hundred standard deviations away from the rest; it is clipped here, or it would decide the deviation of a matrix
    alone."""
    t = t.clamp(-8 * t.abs().mean(), 8 * t.abs().mean())
    return torch.stack([t.mean(), t.std(correction=0), t.abs().mean()])


def case(name, img, golden, text, **options):
    value = lambda v: "-".join(map(str, v)) if isinstance(v, list) else v
    key = f"{name}@{img}" + "".join(f"+{k}={value(v)}" for k, v in options.items())
    torch.manual_seed(1)
    model = create(name, img, options)
    golden[f"{key}/initial"] = torch.stack([statistics(t.double()) for _, t in state(model)]).float()
    text.append(f"[{key}]")
    text += [f"{n} {'x'.join(map(str, t.shape))}" for n, t in state(model)]

    with torch.no_grad():
        fill(model)
    model.eval()
    stages = []
    hooks = [m.register_forward_hook(lambda _, __, out: stages.append(stage(name, out))) for m in tapped(name, model)]
    x = images(2, img)
    with torch.no_grad():
        golden[f"{key}/logits"] = model(x)
        for i, out in enumerate(stages):
            golden[f"{key}/stage{i + 1}"] = sample(out)
        golden[f"{key}/embedding"] = sample(model.forward_head(model.forward_features(x), pre_logits=True))
    for hook in hooks:
        hook.remove()
    return dict(key=key, model=name, img=img, options=options), model


def train_case(key, model, img, golden):
    """Gradients of a weighted sum of the logits in training mode, and what the batch norms have learned. In float64: in
    float32 batch norms of a few values and the kinks of ReLU leave too few digits of a gradient to compare."""
    model.double().train()
    logits = model(images(4, img).double())
    golden[f"{key}/train_logits"] = logits.detach().float()
    (logits * tensor(noise(7, logits.numel()), logits.shape)).sum().backward()
    parameters = dict(model.named_parameters())
    golden[f"{key}/train"] = torch.stack(
        [sample(parameters[n].grad if n in parameters else t, 4) for n, t in state(model)]
    )


# 72 px: windows are padded, a grid is odd, the last is smaller than a window; 75 px: pixels are left over at each
# stage.
SWIN = {f"swin_{size}_patch4_window7_224": 72 for size in ("tiny", "small", "base", "nano", "pico")}
CONVNEXT = {f"convnext_{size}": 75 for size in ("tiny", "small", "base")}
IMAGENET = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenetv1_100", "mobilenetv2_100", "efficientnet_b0"]
OTHER = {
    **SWIN,
    **CONVNEXT,
    **{n: 75 for n in IMAGENET},
    "vit_nano": 12,
    "mixer_nano": 12,
    **{n: 27 for n in [*CIFAR, *CRD]},
    "vgg8": 65,
}
DEFAULT = {"vit_nano": 8, "mixer_nano": 8, **{n: 32 for n in [*CIFAR, *CRD]}}
DISTILLED = [f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base")]
MODELS = [
    *IMAGENET,
    *CIFAR,
    *CRD,
    *DISTILLED,
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "deit_base_patch16_224",
    "vit_nano",
    "mixer_s16_224",
    "mixer_b16_224",
    "mixer_nano",
    "resmlp_12_224",
    "resmlp_24_224",
    *SWIN,
    *CONVNEXT,
]


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--weights", type=pathlib.Path, default=HERE / "../../../../../shared/data/weights")
    weights = args.parse_args().weights
    golden, text, cases = {}, [], []
    for name in MODELS:
        cases.append(case(name, DEFAULT.get(name, 224), golden, text)[0])
        entry, model = case(name, OTHER.get(name, 64), golden, [])
        cases.append(entry)
        train_case(entry["key"], model, entry["img"], golden)
        print(entry["key"], golden[f"{entry['key']}/logits"].abs().max().item(), flush=True)
    for name, img, options in [
        ("resnet18", 32, dict(stem="cifar")),
        ("mobilenetv2_100", 32, dict(stem="cifar")),
        ("efficientnet_b0", 32, dict(stem="cifar")),
        ("deit_tiny_patch16_224", 32, dict(patch=4, dim=48, depth=5, heads=4)),
        ("deit_tiny_distilled_patch16_224", 32, dict(patch=4, dim=48, depth=5, heads=4)),
        ("mixer_s16_224", 24, dict(patch=6, dim=40, depth=5)),
        ("resmlp_12_224", 24, dict(patch=6, dim=40, depth=5)),
        ("swin_tiny_patch4_window7_224", 32, dict(patch=2, window=4, dim=24, depths=[2, 3, 2, 1], heads=3)),
        ("swin_tiny_patch4_window7_224", 64, dict(patch=4, window=7, dim=48, depths=[2, 2, 2, 2], heads=2)),
        ("convnext_tiny", 27, dict(patch=1, dim=16, depths=[1, 2, 1, 3])),
    ]:
        entry, model = case(name, img, golden, text, **options)
        cases.append(entry)
        train_case(entry["key"], model, img, golden)
    for old, new in [(14, 7), (7, 14), (4, 5), (5, 3)]:
        pos_embed = tensor(noise(3, (1 + old * old) * 6), (1, 1 + old * old, 6))
        golden[f"pos_embed/{old}/{new}"] = resample_abs_pos_embed(pos_embed, [new, new]).contiguous()
    for old, new in [(7, 4), (7, 12), (7, 1), (3, 8), (12, 7)]:
        table = tensor(noise(4, (2 * old - 1) ** 2 * 3), ((2 * old - 1) ** 2, 3))
        shape = ((2 * new - 1) ** 2, 3)
        golden[f"bias_table/{old}/{new}"] = resize_rel_pos_bias_table(table, (new, new), shape).contiguous()
    save_file(golden, HERE / "timm.safetensors", {**VERSIONS, "cases": json.dumps(cases)})
    (HERE / "parameters.txt").write_text("\n".join(text) + "\n")

    file = weights / "deit_tiny_patch16_112.cifar100.safetensors"
    if not file.exists():
        print("no real weights in", weights)
        return
    model = timm.create_model("deit_tiny_patch16_224", num_classes=100, img_size=112).eval()
    model.load_state_dict(load_file(file))
    with torch.no_grad():
        save_file({"logits": model(images(2, 112))}, HERE / "real.safetensors", VERSIONS)


if __name__ == "__main__":
    main()
