"""Six distillation steps in plain PyTorch: what the trainer's step must reproduce.

A ViT at 16 px teaches ResNet-8 at 8 px from the same uint8 images, each with its own normalisation: cross-entropy with
label smoothing and KD at temperature 4, gradient clipping, and an optimizer that does not decay vectors, tokens and
position embeddings. Weights and images come from formulas that the test computes too. Needs torch and timm; writes
steps.json beside itself.
"""

import json
import sys
from pathlib import Path

import timm
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "models" / "tests" / "goldens"))
import make  # the ResNet that timm lacks, and timm's ViT with our sizes

CLASSES, BATCH, STEPS = 10, 12, 6
STUDENT = ([0.3, 0.4, 0.5], [0.2, 0.3, 0.4])
TEACHER = ([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])


def wave(count, phase):
    return torch.sin(0.37 * torch.arange(1, count + 1, dtype=torch.float64) ** 1.1 + phase)


def fill(model):
    with torch.no_grad():
        for k, (name, p) in enumerate(sorted(model.named_parameters())):
            values = wave(p.numel(), 1.3 * k).reshape(p.shape)
            if p.dim() >= 2:
                fan_in = p[0].numel()
                p.copy_(values * (1.5 / fan_in**0.5))
            elif name.endswith("weight"):
                p.copy_(1 + 0.1 * values)
            else:
                p.copy_(0.1 * values)


def batch(step):
    values = wave(BATCH * 3 * 64, 0.11 * step).reshape(BATCH, 3, 8, 8)
    return ((values + 1) * 127.5).floor(), torch.tensor([(7 * i + step) % CLASSES for i in range(BATCH)])


def view(levels, img, mean, std):
    x = (levels.float() / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    return x if img == 8 else F.interpolate(x, size=(img, img), mode="bicubic", align_corners=False)


def run(optimizer):
    torch.set_num_threads(1)
    teacher = make.VisionTransformer(
        img_size=16, patch_size=2, embed_dim=64, depth=4, num_heads=4, num_classes=CLASSES
    ).eval()
    student = make.CifarResNet(8, [16, 16, 32, 64])
    student.fc = torch.nn.Linear(64, CLASSES)
    fill(teacher), fill(student)
    student.train()
    decay = [p for p in student.parameters() if p.dim() >= 2]
    plain = [p for p in student.parameters() if p.dim() < 2]
    groups = [dict(params=decay, weight_decay=0.01), dict(params=plain, weight_decay=0.0)]
    if optimizer == "sgd":
        optim = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    else:
        optim = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999), eps=1e-8)
    rows = []
    for step in range(STEPS):
        for group in optim.param_groups:
            group["lr"] = (0.1 if optimizer == "sgd" else 0.01) / (1 + step)
        levels, labels = batch(step)
        with torch.no_grad():
            target = teacher(view(levels, 16, *TEACHER))
        logits = student(view(levels, 8, *STUDENT))
        ce = F.cross_entropy(logits, labels, label_smoothing=0.1)
        kd = 16 * F.kl_div(
            F.log_softmax(logits / 4, 1), F.log_softmax(target / 4, 1), log_target=True, reduction="batchmean"
        )
        total = 0.5 * ce + 0.7 * kd
        optim.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 0.8)
        optim.step()
        rows.append([ce.item(), kd.item(), total.item(), norm.item()])
    return rows


if __name__ == "__main__":
    golden = {
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "columns": ["ce", "kd.kd", "total", "norm of the gradient"],
    }
    golden |= {name: run(name) for name in ("sgd", "adamw")}
    Path(__file__).with_name("steps.json").write_text(json.dumps(golden, indent=1) + "\n")
