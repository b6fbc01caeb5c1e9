"""The distillation step in PyTorch and timm: one process of the benchmark, driven over stdin and stdout (README.md)."""

import contextlib
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import methods
import networks

MODES = ("shipped", "tuned", "contiguous", "compiled", "frozen", "graphed")
NO_DECAY = ("cls_token", "pos_embed", "theta")


def load(module, path):
    """Weights by name; only the counters of batch norms may be absent."""
    missing, unexpected = module.load_state_dict(load_file(path), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path}: missing {missing}, not expected {unexpected}")


def make_network(job):
    net = networks.create(job["model"], job["img"], job["classes"], job["options"])
    load(net, job["weights"])
    return net


def make_method(job, student, teacher):
    """The method's module for two networks as `networks.create` returns them."""
    if job.get("method_options"):
        raise ValueError(f"the peer has {job['method']} with its defaults only, not with {job['method_options']}")
    stages = [networks.stages(net, job[side]["img"]) for net, side in ((student, "student"), (teacher, "teacher"))]
    return methods.build(
        job["method"], methods.Spec(*stages, student.num_features, teacher.num_features, job["classes"])
    )


def keep_in_bfloat16(net):
    """Casts once what autocast would cast at every step; a frozen network does not need its float32 weights."""
    for module in net.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.bfloat16()


class Normalise:
    """(x / 255 - mean) / std of uint8 images, as one product and one sum."""

    def __init__(self, side, device, channels_last):
        constant = lambda values: torch.tensor(values, device=device).view(1, 3, 1, 1)
        self.scale = constant([1 / (255 * s) for s in side["std"]])
        self.shift = constant([-m / s for m, s in zip(side["mean"], side["std"])])
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images):
        return torch.add(self.shift, images.to(torch.float32, memory_format=self.layout) * self.scale)


def optimizer(parameters, settings, fused):
    """SGD whose weight decay leaves out norms, biases, tokens, position embeddings and low-pass kernels."""
    decays = lambda name, p: p.dim() >= 2 and name.rpartition(".")[2] not in NO_DECAY
    decay, plain = ([p for name, p in parameters if decays(name, p) is wanted] for wanted in (True, False))
    groups = [dict(params=decay, weight_decay=settings["weight_decay"]), dict(params=plain, weight_decay=0.0)]
    return torch.optim.SGD(
        [g for g in groups if g["params"]], lr=settings["lr"], momentum=settings["momentum"], fused=fused or None
    )


class Step:
    """Everything of one configuration; calling it does one step and returns the loss, a tensor."""

    def __init__(self, job):
        mode = job["mode"]
        if mode not in MODES:
            raise ValueError(f"no mode {mode}; known are {', '.join(MODES)}")
        if job["precision"] == "bf16" and mode == "shipped":
            raise ValueError("the shipped mode is fp32 only")
        self.device, self.bf16 = torch.device(job["device"]), job["precision"] == "bf16"
        data = load_file(job["inputs"])
        batch = job["batch"]
        self.batches = [
            (x.to(self.device), y.to(self.device))
            for x, y in zip(data["images"].split(batch), data["labels"].split(batch))
        ]
        self.teacher, self.normalise_teacher = self.side({**job["teacher"], "classes": job["classes"]}, mode)
        self.student, self.normalise_student = self.side({**job["student"], "classes": job["classes"]}, mode)
        self.teacher.eval().requires_grad_(False)
        self.student.train()
        self.method = make_method(job, self.student, self.teacher).to(self.device).train()
        if job.get("heads"):
            load(torch.nn.ModuleDict({job["method"]: self.method}), job["heads"])
        if self.bf16:
            keep_in_bfloat16(self.teacher)
        parameters = [*self.student.named_parameters(), *self.method.named_parameters()]
        self.optimizer = optimizer(parameters, job["optimizer"], fused=mode != "shipped")
        self.read_teacher = networks.Tapped(self.teacher, self.method.reads_teacher_maps)
        self.read_student = networks.Tapped(self.student, self.method.reads_student_maps)
        self.graphed = mode == "graphed"
        if mode in ("compiled", "frozen", "graphed"):
            self.compile(freeze=mode == "frozen")
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = mode != "shipped"
            # PyTorch rounds convolutions to TF32 unless it is told otherwise; heterodyne's float32 does not.
            torch.backends.cudnn.allow_tf32 = mode == "shipped"
        self.count = 0

    def side(self, job, mode):
        net = make_network(job).to(self.device)
        channels_last = networks.is_convolutional(net) and mode not in ("shipped", "contiguous")
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
        return net, Normalise(job, self.device, channels_last)

    def compile(self, freeze):
        """Compiles networks and loss, as CUDA graphs on request; `freeze` folds the teacher's weights into the code."""
        import torch._inductor.config as config

        config.freezing = freeze
        compiled = lambda module: torch.compile(module, dynamic=False, mode="reduce-overhead" if self.graphed else None)
        self.read_teacher, self.read_student, self.method = map(
            compiled, (self.read_teacher, self.read_student, self.method)
        )

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def loss(self, images, labels):
        with torch.no_grad(), self.autocast():
            taught = self.read_teacher(self.normalise_teacher(images))
        x = self.normalise_student(images)
        with self.autocast():
            student = self.read_student(x)
            return F.cross_entropy(student[0].float(), labels) + self.method(student, taught, labels)

    def __call__(self):
        images, labels = self.batches[self.count % len(self.batches)]
        self.count += 1
        if self.graphed:
            torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, n):
        """`n` steps: milliseconds of each, losses."""
        ms, losses = [], []
        for _ in range(n):
            self.wait()
            start = time.perf_counter()
            loss = self()
            self.wait()
            ms.append(1e3 * (time.perf_counter() - start))
            losses.append(loss.clone())
        return ms, [float(loss) for loss in losses]


def peak_rss_mb():
    """The largest resident size so far, from the kernel; None if there is no /proc."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
    except OSError:
        return None


def main():
    # Only protocol lines go to stdout; whatever libraries print goes to stderr.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    send = lambda **answer: print(json.dumps(answer), file=out)
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    step = Step(job)
    _, losses = step.run(1)
    send(ready=True, startup_s=time.time() - job["spawned_at"], loss=losses[0])
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("quit"):
            break
        ms, losses = step.run(request["steps"])
        cuda_mb = torch.cuda.max_memory_allocated() / 1e6 if step.device.type == "cuda" else None
        send(ms=ms, losses=losses, rss_mb=peak_rss_mb(), cuda_mb=cuda_mb)


if __name__ == "__main__":
    main()
