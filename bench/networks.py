"""timm's networks with what a distillation method reads: logits, pooled embedding and four stages.

A stage is a map (B,C,H,W). Tokens are folded onto their grid, as a view; where there is a class token, the stage is a
pair of the map and the token (B,1,C). The taps lie where heterodyne's do: the four stages of a pyramid (MobileNetV2:
the ends of rows 2, 3 and 5 of its table, and the head's map), the blocks at 1/6, 1/3, 5/6 and all of the depth of a
sequence.
"""

from dataclasses import dataclass

import timm
from torch import nn

# MobileNetV2's blocks, numbered as timm does, after which a stage is taken.
MOBILENET_TAPS = (1, 2, 4)


@dataclass(frozen=True)
class Stage:
    """Shape of one stage; `tokens` where it is a sequence, `classes` where that has a class token."""

    channels: int
    grid: tuple
    tokens: bool = False
    classes: bool = False


def create(model, img, classes, options=None):
    """timm's network with random weights, for heterodyne's options `patch` and `stem`."""
    options = dict(options or {})
    arguments = {}
    if "patch" in options:
        arguments |= dict(img_size=img, patch_size=options.pop("patch"))
    stem = options.pop("stem", "imagenet")
    if options:
        raise ValueError(f"{model}: no option {', '.join(options)}; known are patch and stem")
    net = timm.create_model(model, pretrained=False, num_classes=classes, **arguments)
    if stem == "cifar":
        net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    return net


def family(net):
    """Which of the readers below the network goes with."""
    name = type(net).__name__
    if name not in READERS:
        raise ValueError(f"{name} has no taps here; known are {', '.join(READERS)}")
    return name


def is_convolutional(net):
    """Whether channels-last is the layout for it."""
    return family(net) in ("ResNet", "EfficientNet", "ConvNeXt")


def tap_depths(depth):
    """Numbers of blocks, from 1, after which a sequence of `depth` blocks is tapped."""
    first = (depth + 3) // 6
    second = max((2 * depth + 3) // 6, first + 1)
    third = min((5 * depth + 3) // 6, depth - 1)
    return (first, second, third, depth)


def fold(tokens, prefix, grid):
    """(B,N,C) to (B,C,H,W), a view."""
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)


def pyramid(x, stages, permute=None):
    """Runs `stages`, keeping what each puts out."""
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x if permute is None else x.permute(permute))
    return x, maps


def sequence(x, blocks, prefix, grid):
    """Runs `blocks`, keeping the tapped ones as maps."""
    maps, tapped = [], tap_depths(len(blocks))
    for depth, block in enumerate(blocks, 1):
        x = block(x)
        if depth in tapped:
            places = fold(x, prefix, grid)
            maps.append((places, x[:, :prefix]) if prefix else places)
    return x, maps


def read_resnet(net, x):
    x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
    x, maps = pyramid(x, (net.layer1, net.layer2, net.layer3, net.layer4))
    embedding = net.global_pool(x)
    return net.fc(embedding), embedding, maps


def read_mobilenet(net, x):
    x = net.bn1(net.conv_stem(x))
    maps = []
    for i, block in enumerate(net.blocks):
        x = block(x)
        if i in MOBILENET_TAPS:
            maps.append(x)
    x = net.bn2(net.conv_head(x))
    embedding = net.global_pool(x)
    return net.classifier(embedding), embedding, [*maps, x]


def read_vit(net, x):
    x = net.norm_pre(net._pos_embed(net.patch_embed(x)))
    x, maps = sequence(x, net.blocks, net.num_prefix_tokens, net.patch_embed.grid_size)
    embedding = net.fc_norm(net.norm(x)[:, 0])
    return net.head(embedding), embedding, maps


def read_mixer(net, x):
    x, maps = sequence(net.stem(x), net.blocks, 0, net.stem.grid_size)
    embedding = net.norm(x).mean(1)
    return net.head(embedding), embedding, maps


def read_swin(net, x):
    x, maps = pyramid(net.patch_embed(x), net.layers, permute=(0, 3, 1, 2))
    embedding = net.head(net.norm(x), pre_logits=True)
    return net.head.fc(embedding), embedding, maps


def read_convnext(net, x):
    x, maps = pyramid(net.stem(x), net.stages)
    embedding = net.head(net.norm_pre(x), pre_logits=True)
    return net.head.fc(embedding), embedding, maps


READERS = {
    "ResNet": read_resnet,
    "EfficientNet": read_mobilenet,
    "VisionTransformer": read_vit,
    "MlpMixer": read_mixer,
    "SwinTransformer": read_swin,
    "ConvNeXt": read_convnext,
}


def stages(net, img):
    """Shapes of the four stages for images of `img` pixels."""
    kind = family(net)
    if kind in ("VisionTransformer", "MlpMixer"):
        embed = net.patch_embed if kind == "VisionTransformer" else net.stem
        return [
            Stage(embed.proj.out_channels, tuple(embed.grid_size), tokens=True, classes=kind == "VisionTransformer")
        ] * 4

    def stage(channels, reduction):
        side = -(-img // reduction)
        return Stage(channels, (side, side))

    if kind == "EfficientNet":
        return [stage(net.blocks[i][-1].conv_pwl.out_channels, r) for i, r in zip(MOBILENET_TAPS, (4, 8, 16))] + [
            stage(net.num_features, 32)
        ]
    info = net.feature_info[-4:]
    stem = 4 if kind == "ResNet" and isinstance(net.maxpool, nn.Identity) else 1
    return [stage(i["num_chs"], i["reduction"] // stem) for i in info]


class Tapped(nn.Module):
    """A network that returns (logits, embedding, four maps); the maps are left out where nothing reads them."""

    def __init__(self, net, with_maps):
        super().__init__()
        self.net, self.with_maps, self.read = net, with_maps, READERS[family(net)]

    def forward(self, x):
        logits, embedding, maps = self.read(self.net, x)
        return logits, embedding, maps if self.with_maps else []
