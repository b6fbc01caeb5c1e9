"""What is measured: pairs of networks, methods, precisions.

Weights are random, so only shapes matter; `mean` and `std` are the normalisation that both sides apply.
"""

from dataclasses import dataclass, field

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
CENTRED = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])

METHODS = ["kd", "uhkd", "lfcc", "hcd"]
PRECISIONS = ["fp32", "bf16"]
CLASSES = 100
OPTIMIZER = dict(momentum=0.9, weight_decay=1e-4)


@dataclass(frozen=True)
class Network:
    """A network by its timm name; `options` are heterodyne's (`patch`, `stem`)."""

    model: str
    normalisation: dict
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A teacher and a student that see the same images of `img` x `img` pixels.

    `lr` is such that three steps move the losses by more than their tolerance, and that rounding alone does not. The
    gradient of a random MobileNetV2 in float32 differs by percents between PyTorch's own memory layouts, hence its
    small one; SGD moves DeiT far enough with less than a residual network.
    """

    teacher: Network
    student: Network
    img: int = 224
    batch: int = 16
    lr: float = 0.05

    @property
    def name(self):
        return f"{self.teacher.model}->{self.student.model}" + (f"@{self.img}" if self.img != 224 else "")


RESNET18 = Network("resnet18", IMAGENET)
PAIRS = [
    Pair(Network("swin_tiny_patch4_window7_224", IMAGENET), RESNET18),
    Pair(Network("vit_small_patch16_224", CENTRED), Network("mobilenetv2_100", IMAGENET), lr=1e-4),
    Pair(Network("convnext_tiny", IMAGENET), Network("deit_tiny_patch16_224", IMAGENET), lr=0.01),
    Pair(Network("mixer_b16_224", CENTRED), RESNET18),
    Pair(
        Network("vit_tiny_patch16_224", CENTRED, dict(patch=4)),
        Network("resnet18", IMAGENET, dict(stem="cifar")),
        img=32,
        batch=128,
    ),
]
