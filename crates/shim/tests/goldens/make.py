"""Small external teachers as TorchScript files, and what they put out, from torch alone.

    python make.py

needs torch and safetensors, and writes beside itself, all for images float32 (B,3,32,32):
    teacher_dict.pt       a dict of logits, embedding and four stages, any B, with metadata
    teacher_logits.pt     logits only, any B, without metadata
    teacher_fixed.pt      logits only, and only for B = 2
    teacher_odd.pt        a tuple of two tensors, which no teacher may return
    teacher_nan.pt        raises an exception with a message
    teacher_moody.pt      gives other shapes for more than three images
    teacher_softmax.pt    the probabilities of teacher_logits.pt
    teacher_logarithms.pt their logarithms (log_softmax)
    teacher_dropout.pt    the same network with dropout before its classifier, traced in training mode
    teacher_training.pt   the same network with batch norm, traced in training mode
    expected.safetensors  `x` (3,3,32,32); `dict/NAME` and `logits/logits` for all of `x`, `fixed/logits` for its first
                          two images
"""

import io
import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent
CLASSES = 10
IMG = 32
MESSAGE = "this teacher always fails"


class TwoMapsTwoSequences(nn.Module):
    """Maps in the first two stages, a class token and a 4x4 grid in the last two. No two stages are of one shape."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(6, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.embed = nn.Conv2d(12, 8, 1)
        self.class_token = nn.Parameter(0.5 * torch.randn(1, 1, 8))
        self.widen = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        stage1 = self.stem(x)
        stage2 = self.down(stage1)
        tokens = self.embed(stage2).flatten(2).transpose(1, 2)
        stage3 = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1)
        mixed = stage3 + stage3.mean(1, keepdim=True)
        stage4 = torch.tanh(self.widen(mixed))
        embedding = self.norm(stage4)[:, 0]
        return {
            "logits": self.head(embedding),
            "embedding": embedding,
            "stage1": stage1,
            "stage2": stage2,
            "stage3": stage3,
            "stage4": stage4,
        }


class LogitsOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Fixed(LogitsOnly):
    def forward(self, x):
        # The 2 is a constant of the file: another batch has rows of another length, which `head` refuses.
        return self.head(self.features(x).mean((2, 3)).reshape(2, -1))


class Odd(LogitsOnly):
    def forward(self, x):
        embedding = self.features(x).mean((2, 3))
        return self.head(embedding), embedding


class Raises(nn.Module):
    message: torch.jit.Final[str]

    def __init__(self):
        super().__init__()
        self.message = MESSAGE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() == 4:
            raise RuntimeError(self.message)
        return x


def settle(module):
    """In evaluation mode, with statistics of batch norms that are not those of a new layer."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.eval()


class Moody(nn.Module):
    """Ten classes for up to three images, one for more: what a trial with three images does not show."""

    def forward(self, x):
        if x.shape[0] <= 3:
            return torch.ones(x.shape[0], 10)
        return torch.ones(x.shape[0], 1)


class Probabilities(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).softmax(-1)


class Logarithms(Probabilities):
    def forward(self, x):
        return self.net(x).log_softmax(-1)


class Small(nn.Module):
    """A network whose training differs from its evaluation in `between`."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.between, self.fc = nn.Conv2d(3, 8, 5, stride=4), between, nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.fc(self.between(self.conv(x)).relu().mean((2, 3)))


def save(module, name, **extra):
    """Without the records that hold file names and lines of this script and of torch's sources."""
    buffer = io.BytesIO(module.save_to_buffer(_extra_files=extra))
    whole = torch._C.PyTorchFileReader(buffer)
    bare = torch._C.PyTorchFileWriter(str(HERE / name))
    for record in whole.get_all_records():
        if not record.endswith((".debug_pkl", "version", "byteorder", "serialization_id")):
            data = whole.get_record(record)
            bare.write_record(record, data, len(data))
    bare.write_end_of_file()


METADATA = {
    "version": 1,
    "name": "torch/two_maps_two_sequences",
    "classes": CLASSES,
    "img": IMG,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.25, 0.2, 0.15],
    "crop": 0.9,
    "dtype": "fp32",
    "outputs": ["logits", "embedding", "stage1", "stage2", "stage3", "stage4"],
    "embedding": 16,
    "stages": [
        {"kind": "map", "channels": 6, "grid": [8, 8]},
        {"kind": "map", "channels": 12, "grid": [4, 4]},
        {"kind": "tokens", "channels": 8, "grid": [4, 4], "prefix": 1},
        {"kind": "tokens", "channels": 16, "grid": [4, 4], "prefix": 1},
    ],
    "torch": torch.__version__.split("+")[0],
}


def main():
    torch.manual_seed(1)
    x = torch.randn(3, 3, IMG, IMG)
    two_by_two, logits_only, fixed, odd = (settle(m()) for m in (TwoMapsTwoSequences, LogitsOnly, Fixed, Odd))
    trace = lambda module: torch.jit.trace(module, x[:2], strict=False, check_trace=False)
    with torch.no_grad():
        save(trace(two_by_two), "teacher_dict.pt", **{"heterodyne.json": json.dumps(METADATA)})
        save(trace(logits_only), "teacher_logits.pt")
        save(trace(fixed), "teacher_fixed.pt")
        save(trace(odd), "teacher_odd.pt")
        save(torch.jit.script(Raises()), "teacher_nan.pt")
        save(torch.jit.script(Moody()), "teacher_moody.pt")
        save(trace(Probabilities(logits_only)), "teacher_softmax.pt")
        save(trace(Small(nn.Dropout(0.3)).train()), "teacher_dropout.pt")
        save(trace(Small(nn.BatchNorm2d(8)).train()), "teacher_training.pt")
        save(trace(Logarithms(logits_only)), "teacher_logarithms.pt")

        # From the modules themselves, not from their files.
        expected = {"x": x, "logits/logits": logits_only(x), "fixed/logits": fixed(x[:2])}
        expected |= {f"dict/{name}": t.contiguous() for name, t in two_by_two(x).items()}
    save_file(expected, HERE / "expected.safetensors", {"torch": torch.__version__})


if __name__ == "__main__":
    main()
