"""Writes methods.safetensors: losses and gradients of every method, in float64 with PyTorch, from the papers' formulas.

Usage: python make.py    (needs torch, safetensors and nothing else)

Everything here goes another way than the Rust code: full Fourier transforms that are cropped afterwards, loops over
images, windows and sub-logits, torch.nn.functional where it has the function. Learnable weights are filled by `weight`,
which the test repeats.
"""

import cmath
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
BATCH, CLASSES = 4, 5


class Params:
    """Weights by name, created on first use and kept for reading their gradients."""

    def __init__(self):
        self.tensors = {}

    def __call__(self, name, *shape):
        if name not in self.tensors:
            n = math.prod(shape)
            salt = 0.1 * sum(name.encode())
            values = [0.4 * math.sin(1.3 * i + salt) for i in range(n)]
            self.tensors[name] = torch.tensor(values).reshape(shape).requires_grad_()
        assert list(self.tensors[name].shape) == list(shape), name
        return self.tensors[name]


# --- inputs
# ---------------------------------------------------------------------------------------------------------------------


def maps(*shapes):
    return [dict(kind="map", channels=c, grid=[h, w]) for c, h, w in shapes]


def tokens(prefix, *shapes):
    return [dict(kind="tokens", prefix=prefix, channels=c, grid=[h, w]) for c, h, w in shapes]


PAIRS = {
    "conv_conv": dict(
        student=maps((2, 12, 10), (3, 8, 8), (4, 5, 6), (5, 3, 3)),
        teacher=maps((3, 12, 10), (2, 8, 8), (4, 5, 6), (6, 3, 3)),
        d_s=8,
        d_t=6,
    ),
    "conv_vit": dict(
        student=maps((2, 14, 14), (3, 8, 8), (4, 4, 4), (5, 2, 2)), teacher=tokens(1, *[(6, 7, 7)] * 4), d_s=5, d_t=6
    ),
    "vit_conv": dict(
        student=tokens(1, *[(6, 8, 8)] * 4), teacher=maps((2, 16, 16), (3, 8, 8), (4, 4, 4), (5, 2, 2)), d_s=6, d_t=9
    ),
    "swin_vit": dict(
        student=tokens(0, (3, 15, 16), (4, 9, 8), (5, 4, 4), (6, 2, 3)),
        teacher=tokens(2, *[(4, 5, 7)] * 4),
        d_s=8,
        d_t=4,
    ),
}
# Token students whose grids are merged.
MERGING = {
    "vit_vit": dict(student=tokens(1, *[(4, 14, 14)] * 4), teacher=tokens(1, *[(3, 7, 7)] * 4), d_s=4, d_t=3),
    "swin_swin": dict(
        student=tokens(0, (2, 28, 28), (3, 14, 14), (4, 7, 7), (8, 4, 4)),
        teacher=tokens(0, (2, 14, 14), (3, 7, 7), (4, 4, 4), (5, 2, 2)),
        d_s=8,
        d_t=5,
    ),
}
ALL = {**PAIRS, **MERGING}


def inputs(pair, out):
    generator = torch.Generator().manual_seed(sum(pair.encode()))
    spec = ALL[pair]
    for side in ("student", "teacher"):
        for i, s in enumerate(spec[side]):
            h, w = s["grid"]
            shape = (BATCH, s["channels"], h, w) if s["kind"] == "map" else (BATCH, s["prefix"] + h * w, s["channels"])
            out[f"{pair}/{side}.stage{i + 1}"] = torch.randn(shape, generator=generator)
        out[f"{pair}/{side}.logits"] = 2.0 * torch.randn(BATCH, CLASSES, generator=generator)
    out[f"{pair}/teacher.embedding"] = torch.randn(BATCH, spec["d_t"], generator=generator)
    out[f"{pair}/student.embedding"] = torch.randn(
        BATCH, spec["d_s"], generator=torch.Generator().manual_seed(1 + sum(pair.encode()))
    )
    out[f"{pair}/hard"] = torch.tensor([3, 0, 3, 1])
    out[f"{pair}/soft"] = torch.softmax(2.0 * torch.randn(BATCH, CLASSES, generator=generator), -1)


def as_map(x, spec):
    if spec["kind"] == "map":
        return x
    h, w = spec["grid"]
    places = x[:, spec["prefix"] :]
    rows = [places[:, i * w : (i + 1) * w] for i in range(h)]
    return torch.stack(rows, 1).permute(0, 3, 1, 2)


# --- shared by methods
# -----------------------------------------------------------------------------------------------------------


def kl(p_logits, q_logits, temperature):
    """T^2 KL(p || q), sum over classes, mean over the batch."""
    p = torch.softmax(p_logits / temperature, -1)
    q = torch.softmax(q_logits / temperature, -1)
    return temperature**2 * (p * (p / q).log()).sum() / len(p)


def batch_norm(x, w, name):
    c = x.shape[1]
    return F.batch_norm(x, None, None, w(f"{name}.weight", c), w(f"{name}.bias", c), training=True)


# --- methods: (settings, w, student stages as maps, teacher stages as maps, step) -> terms
# -----------------------------------------


def kd(o, w, s, t, step):
    return {"kd": kl(step.z_t, step.z_s, o["temperature"])}


def bkd(o, w, s, t, step):
    p_t = step.z_t.softmax(-1)
    return {"kd": F.binary_cross_entropy_with_logits(step.z_s, p_t) * (CLASSES if o["reduce"] == "sum" else 1)}


def dkd(o, w, s, t, step):
    """Image by image, with probabilities as the paper writes them."""
    T, tckd, nckd = o["temperature"], 0.0, 0.0
    for z_s, z_t, y in zip(step.z_s, step.z_t, step.index.tolist()):
        p_s, p_t = (z_s / T).softmax(-1), (z_t / T).softmax(-1)
        b_s, b_t = (torch.stack([p[y], p.sum() - p[y]]) for p in (p_s, p_t))
        rest = [c for c in range(CLASSES) if c != y]
        q_s, q_t = (p[rest] / p[rest].sum() for p in (p_s, p_t))
        tckd = tckd + T**2 * (b_t * (b_t / b_s).log()).sum() / BATCH
        nckd = nckd + T**2 * (q_t * (q_t / q_s).log()).sum() / BATCH
    return {name: value for name, key, value in (("tckd", "alpha", tckd), ("nckd", "beta", nckd)) if o[key] > 0}


def dist(o, w, s, t, step):
    T = o["temperature"]
    p_s, p_t = (step.z_s / T).softmax(-1), (step.z_t / T).softmax(-1)
    corr = lambda a, b: torch.corrcoef(torch.stack([a, b]))[0, 1]
    inter = T**2 * sum(1 - corr(a, b) for a, b in zip(p_s, p_t)) / BATCH
    intra = T**2 * sum(1 - corr(a, b) for a, b in zip(p_s.T, p_t.T)) / CLASSES
    return {name: value for name, key, value in (("inter", "beta", inter), ("intra", "gamma", intra)) if o[key] > 0}


def hard(o, w, s, t, step):
    return {"hard": F.cross_entropy(step.z_s, step.z_t.argmax(-1), label_smoothing=o["smoothing"])}


def fitnet(o, w, s, t, step):
    losses = []
    for level in o["levels"]:
        x, y = s[level - 1], t[level - 1]
        c_s, c_t, size = x.shape[1], y.shape[1], y.shape[2:]
        if o["regressor"] == "linear":
            name = f"level{level}.project"
            x = F.conv2d(x, w(f"{name}.weight", c_t, c_s)[:, :, None, None], w(f"{name}.bias", c_t))
            if size[0] <= x.shape[2] and size[1] <= x.shape[3]:
                x = F.adaptive_avg_pool2d(x, size)
            else:
                x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        else:
            name, bias = f"level{level}.conv.weight", w(f"level{level}.conv.bias", c_t)
            if x.shape[2] == 2 * size[0]:
                x = F.conv2d(x, w(name, c_t, c_s, 3, 3), bias, stride=2, padding=1)
            elif 2 * x.shape[2] == size[0]:
                x = F.conv_transpose2d(x, w(name, c_s, c_t, 4, 4), bias, stride=2, padding=1)
            else:
                x = F.conv2d(x, w(name, c_t, c_s, 1 + x.shape[2] - size[0], 1 + x.shape[3] - size[1]), bias)
            x = F.relu(batch_norm(x, w, f"level{level}.norm"))
        losses.append(F.mse_loss(x, y))
    return {"feature": sum(losses) / len(losses)}


def smaller(a, b):
    return [min(x, y) for x, y in zip(a.shape[2:], b.shape[2:])]


def vid(o, w, s, t, step):
    """Channel by channel, with PyTorch's own Gaussian likelihood, which omits the same constant."""
    total = 0.0
    for level in o["levels"]:
        x, y, name = s[level - 1], t[level - 1], f"level{level}"
        grid, c = smaller(x, y), y.shape[1]
        x, y = F.adaptive_avg_pool2d(x, grid), F.adaptive_avg_pool2d(y, grid)
        hidden = 2 * c if o["regressor"] == "norm" else c
        for part in ("first", "second"):
            x = F.conv2d(x, w(f"{name}.{part}.conv.weight", hidden, x.shape[1], 1, 1))
            x = F.relu(batch_norm(x, w, f"{name}.{part}.norm") if o["regressor"] == "norm" else x)
        mean = F.conv2d(x, w(f"{name}.last.weight", c, hidden, 1, 1))
        variance = torch.log(1 + torch.exp(w(f"{name}.spread", c))) + o["eps"]
        total = (
            total
            + sum(F.gaussian_nll_loss(mean[:, i], y[:, i], variance[i].expand_as(y[:, i]), eps=0.0) for i in range(c))
            / c
        )
    return {"vid": total}


def reviewkd(o, w, s, t, step):
    levels = [("embedding", step.f_s[:, :, None, None], step.f_t[:, :, None, None])] if o["embedding"] else []
    levels += [(f"level{level}", s[level - 1], t[level - 1]) for level in sorted(o["levels"], reverse=True)]
    width = min(o["max_width"], levels[0][1].shape[1])
    above, total = None, 0.0
    for name, x, y in levels:
        x = batch_norm(F.conv2d(x, w(f"{name}.reduce.conv.weight", width, x.shape[1], 1, 1)), w, f"{name}.reduce.norm")
        if above is not None:
            up = F.interpolate(above, x.shape[2:], mode="nearest")
            a = F.conv2d(
                torch.cat([x, up], 1), w(f"{name}.attention.weight", 2, 2 * width, 1, 1), w(f"{name}.attention.bias", 2)
            ).sigmoid()
            x = x * a[:, :1] + up * a[:, 1:]
        above = x
        x = F.interpolate(x, y.shape[2:], mode="nearest")
        x = batch_norm(
            F.conv2d(x, w(f"{name}.expand.conv.weight", y.shape[1], width, 3, 3), padding=1), w, f"{name}.expand.norm"
        )
        losses, weights = [F.mse_loss(x, y)], [1.0]
        for pool in (4, 2, 1):
            if pool < min(y.shape[2:]):
                losses.append(F.mse_loss(F.adaptive_avg_pool2d(x, pool), F.adaptive_avg_pool2d(y, pool)))
                weights.append(weights[-1] / 2)
        total = total + sum(a * b for a, b in zip(losses, weights)) / sum(weights)
    return {"review": total}


def embed(w, name, f, dim):
    return F.linear(f, w(f"{name}.weight", dim, f.shape[1]), w(f"{name}.bias", dim))


def cc(o, w, s, t, step):
    """Pair by pair; the series term by term."""
    e_s, e_t = embed(w, "student", step.f_s, o["dim"]), embed(w, "teacher", step.f_t, o["dim"])
    if o["form"] == "neighbours":
        d = [(a - b).abs() for a, b in zip(e_s, e_t)]
        return {"cc": sum(a @ b for a, b in zip(d, d[1:])) / (BATCH - 1)}
    g = o["gamma"]

    def k(a, b):
        return sum(
            math.exp(-2 * g) * (2 * g) ** p / math.factorial(p) * F.cosine_similarity(a, b, dim=0) ** p
            for p in range(o["order"] + 1)
        )

    return {
        "cc": sum((k(e_s[i], e_s[j]) - k(e_t[i], e_t[j])) ** 2 for i in range(BATCH) for j in range(BATCH)) / BATCH**2
    }


SAMPLES, NUM_SAMPLES = [7, 14, 21, 28], 60


def crd(o, w, s, t, step):
    """Image by image. Training images alternate between two classes with equal rows, so no draw matters."""
    v_s, v_t = (
        F.normalize(embed(w, f"{side}.embed", f, o["dim"]))
        for side, f in (("student", step.f_s), ("teacher", step.f_t))
    )
    tau, classes = o["tau"], [i % 2 for i in SAMPLES]
    if o["contrast"] == "batch":
        total = 0.0
        for a, b in ((v_s, v_t), (v_t, v_s)):
            for i in range(BATCH):
                others = [j for j in range(BATCH) if classes[j] != classes[i]]
                total = total - torch.log_softmax(torch.stack([a[i] @ b[j] / tau for j in [i, *others]]), 0)[0] / BATCH
        return {"crd": total}
    k, n = o["num_negatives"], NUM_SAMPLES

    def against(v, name):
        bank = torch.tensor(
            [
                [0.3 * math.sin(1.7 * (c * o["dim"] + d) + 0.1 * sum(f"{name}.bank".encode())) for d in range(o["dim"])]
                for c in range(2)
            ]
        )
        pos, neg = (
            [(v[i] @ bank[c] / tau).exp() for i, c in enumerate(rows)] for rows in (classes, [1 - c for c in classes])
        )
        z = n * (sum(pos) + k * sum(neg)).detach() / (BATCH * (k + 1))
        c = k / n
        return -sum((p / z / (p / z + c)).log() + k * (c / (q / z + c)).log() for p, q in zip(pos, neg)) / BATCH

    return {"crd": against(v_s, "teacher") + against(v_t, "student")}


def at(o, w, s, t, step):
    losses = []
    for level in o["levels"]:
        grid = [min(a, b) for a, b in zip(s[level - 1].shape[2:], t[level - 1].shape[2:])]
        q = [F.normalize(F.adaptive_avg_pool2d(x[level - 1], grid).pow(2).sum(1).flatten(1)) for x in (s, t)]
        losses.append((q[0] - q[1]).pow(2).mean())
    return {"attention": sum(losses)}


def sp(o, w, s, t, step):
    losses = []
    for level in o["levels"]:
        g = []
        for x in (s[level - 1], t[level - 1]):
            rows = [torch.stack([(a * b).sum() for b in x]) for a in x]
            g.append(torch.stack([row / row.norm() for row in rows]))
        losses.append((g[0] - g[1]).pow(2).sum() / BATCH**2)
    return {"similarity": sum(losses)}


def pkt(o, w, s, t, step):
    def p(e):
        rows = [torch.stack([(F.cosine_similarity(a, b, dim=0) + 1) / 2 for b in e]) for a in e]
        return torch.stack([row / row.sum() for row in rows])

    p_s, p_t = p(step.f_s), p(step.f_t)
    return {"similarity": (p_t * (p_t / p_s).log()).sum() / BATCH**2}


def nst(o, w, s, t, step):
    """Channel by channel."""
    losses = []
    for level in o["levels"]:
        grid = [min(a, b) for a, b in zip(s[level - 1].shape[2:], t[level - 1].shape[2:])]
        f_s, f_t = (F.adaptive_avg_pool2d(x[level - 1], grid).flatten(2) for x in (s, t))
        unit = lambda x: x / x.norm()
        k = lambda a, b: (
            sum((unit(x) @ unit(y)) ** 2 for i in range(BATCH) for x in a[i] for y in b[i])
            / (BATCH * a.shape[1] * b.shape[1])
        )
        losses.append(k(f_s, f_s) + k(f_t, f_t) - 2 * k(f_s, f_t))
    return {"selectivity": sum(losses)}


def rkd(o, w, s, t, step):
    """Pair by pair and triple by triple."""
    pairs = [(i, j) for i in range(BATCH) for j in range(BATCH)]

    def relations(e):
        d = {(i, j): (e[i] - e[j]).norm() if i != j else torch.zeros(()) for i, j in pairs}
        mean = sum(d.values()) / (BATCH * (BATCH - 1))
        angle = lambda i, j, k: (
            (e[i] - e[j]) @ (e[k] - e[j]) / (d[i, j] * d[k, j]) if i != j and k != j else torch.zeros(())
        )
        return torch.stack([d[p] / mean for p in pairs]), torch.stack(
            [angle(i, j, k) for j in range(BATCH) for i, k in pairs]
        )

    (d_s, a_s), (d_t, a_t) = relations(step.f_s), relations(step.f_t)
    terms = {"distance": F.smooth_l1_loss(d_s, d_t), "angle": F.smooth_l1_loss(a_s, a_t)}
    return {name: value for name, value in terms.items() if o[name] > 0}


def ofa(o, w, s, t, step):
    T = o["temperature"]
    m = F.one_hot(step.index, CLASSES).double()
    p_t = (step.z_t / T).softmax(-1)

    def loss(z):
        return -(((p_t + m) ** o["eps"] - m) * (z / T).softmax(-1).log()).sum() / BATCH

    terms = {"kd": loss(step.z_s)} if o["w_kd"] > 0 else {}
    exits = []
    for level in o["levels"] if o["w_ofa"] > 0 else []:
        name = f"level{level}"
        f = head(
            w,
            f"{name}.head",
            s[level - 1],
            step.class_tokens[level - 1],
            step.student[level - 1]["kind"],
            level,
            step.d_s,
            max(step.d_s, step.d_t),
        )
        exits.append(
            loss(f @ w(f"{name}.classifier.weight", CLASSES, f.shape[1]).T + w(f"{name}.classifier.bias", CLASSES))
        )
    if exits:
        terms["ofa"] = sum(exits)
    return terms


def kept(k, a, b):
    """The lowest frequencies and their negatives, at most k, that both lengths can distinguish."""
    return [f for f in range(-k, k + 1) if 2 * abs(f) < min(k, a, b)]


def uhkd(o, w, s, t, step):
    """On the whole plane; where a tensor holds its half (the window that learns, the direct spectrum), the rest is its
    mirror image."""
    terms = {}
    if o["alpha"] > 0:
        terms["kd"] = kl(step.z_t, step.z_s, o["temperature"])
    losses = []
    for level in o["levels"] if o["beta"] > 0 else []:
        x, y = s[level - 1], t[level - 1]
        c_s, c_t, name = x.shape[1], y.shape[1], f"level{level}"
        (h_s, w_s), (h_t, w_t) = x.shape[2:], y.shape[2:]
        us, vs = kept(o["k"], h_s, h_t), kept(o["k"], w_s, w_t)
        half = [v for v in vs if v >= 0]

        def spectrum(m):
            """The bins of a transform whose origin is half a position before the first one."""
            full = torch.fft.fft2(m, norm={"area": "forward", "ortho": "ortho", "none": "backward"}[o["scaling"]])
            h, width = m.shape[2:]
            turned = lambda u, v: full[:, :, u % h, v % width] * cmath.exp(-1j * math.pi * (u / h + v / width))
            return torch.stack([torch.stack([turned(u, v) for v in vs], -1) for u in us], -2)

        def mirrored(a):
            """(B,C,K,K',P) from the half plane to the whole plane."""
            conjugate = torch.tensor([1.0, -1.0][: a.shape[-1]])
            at = lambda u, v: a[:, :, us.index(u), v] if v >= 0 else a[:, :, us.index(-u), -v] * conjugate
            return torch.stack([torch.stack([at(u, v) for v in vs], -2) for u in us], -3)

        def value(z):
            if o["representation"] == "complex":
                return torch.view_as_real(z)
            amplitude = (z.real**2 + z.imag**2 + 1e-12).sqrt()
            return (amplitude if o["representation"] == "amplitude" else torch.log(1 + amplitude))[..., None]

        sigma = o["sigma"] * o["k"]
        gaussian = torch.tensor([[math.exp(-(u * u + v * v) / (2 * sigma**2)) for v in vs] for u in us])
        ideal = torch.tensor([[float(math.hypot(u, v) <= sigma) for v in vs] for u in us])
        g = {"gaussian": gaussian, "none": torch.ones_like(gaussian), "ideal": ideal}.get(o["window"])
        if g is None:
            theta = w(f"{name}.window", len(us), len(half))
            factors = theta.exp() / theta.exp().mean()
            g = gaussian * mirrored(factors[None, None, :, :, None])[0, 0, :, :, 0]

        def finish(a, g):
            """(B,C,K,K,P), weighted and standardised; imaginary parts of a whole plane have mean 0."""
            a = a * g[:, :, None]
            if o["normalise"] == "none":
                return a
            dims = (1, 2, 3) if o["normalise"] == "sample" else (2, 3)
            a = torch.stack(
                [x - (x.mean(dims, keepdim=True) if part == 0 else 0) for part, x in enumerate(a.unbind(-1))], -1
            )
            return a / (a.square().mean((*dims, 4), keepdim=True) + 1e-6).sqrt()

        # The highest frequency without aliasing on a grid is the largest integer below half the number of positions.
        if o["fam_grid"] == "band":
            needed = [2 * max(abs(u) for u in us) + 1, 2 * max(vs) + 1]
            block = [
                max(f for f in range(1, n + 1) if n % f == 0 and (f == 1 or n // f >= m))
                for n, m in zip((h_s, w_s), needed)
            ]
            x = F.avg_pool2d(x, block)
        z = F.conv2d(x, w(f"{name}.project.weight", c_t, c_s, 1, 1))
        z = F.relu(batch_norm(z, w, f"{name}.norm"))
        z = F.conv2d(z, w(f"{name}.depthwise.weight", c_t, 1, 3, 3), padding=1, groups=c_t)
        parts = 2 if o["representation"] == "complex" else 1
        out = c_t * parts if o["fam_mode"] == "direct" else c_t
        z = F.conv2d(z, w(f"{name}.last.weight", out, c_t)[:, :, None, None], w(f"{name}.last.bias", out))
        if o["fam_mode"] == "direct":
            pooled = F.adaptive_avg_pool2d(z, (len(us), len(half)))
            a_s = mirrored(torch.stack(pooled.split(c_t, 1), -1))
        else:
            a_s = value(spectrum(z))
        losses.append(F.mse_loss(finish(a_s, g), finish(value(spectrum(y)), g.detach())))
    if losses:
        terms["freq"] = sum(losses) / len(losses)
    return terms


def lfcc(o, w, s, t, step):
    terms = {}
    if o["alpha"] > 0:
        terms["kd"] = kl(step.z_t, step.z_s, o["temperature"])
    losses = []
    for level in o["levels"] if o["beta"] > 0 else []:
        x, y = s[level - 1], t[level - 1]
        for scale in o["scales"]:
            if scale > min(*x.shape[2:], *y.shape[2:]):
                continue
            name = f"level{level}.scale{scale}"
            pooled = F.adaptive_avg_pool2d(y, scale)
            if o["filter"] == "avgpool":
                low = F.adaptive_avg_pool2d(x, scale)
            else:
                low = low_pass(x, scale, w, f"{name}.theta")
            low = F.conv2d(low, w(f"{name}.project.weight", y.shape[1], x.shape[1])[:, :, None, None])
            low = batch_norm(low, w, f"{name}.norm")
            q, k = (x.flatten(1) / (x.flatten(1).norm(dim=1, keepdim=True) ** 2 + 1e-12).sqrt() for x in (low, pooled))
            m = q @ k.T
            m = m * w("logit_scale").clamp(max=math.log(100)).exp() if o["tau_learnable"] else m / o["tau"]
            if o["mask_same_class"]:
                y_index = step.index
                keep = torch.tensor([[i == j or y_index[i] != y_index[j] for j in range(BATCH)] for i in range(BATCH)])
                m = torch.where(keep, m, torch.tensor(-math.inf))
            own = torch.arange(BATCH)
            loss = F.cross_entropy(m, own)
            if o["symmetric"]:
                loss = (loss + F.cross_entropy(m.T, own)) / 2
            losses.append(loss)
    if losses:
        terms["con"] = sum(losses) / len(losses)
    return terms


def low_pass(x, scale, w, name):
    b, c, height, width = x.shape
    bounds = lambda n: [(i * n // scale, -(-(i + 1) * n // scale)) for i in range(scale)]
    rows, columns = bounds(height), bounds(width)
    theta = w(name, c, max(e - a for a, e in rows), max(e - a for a, e in columns))
    if height % scale == 0 and width % scale == 0:
        kernel = theta.flatten(1).softmax(-1).view_as(theta)
        return F.conv2d(x, kernel[:, None], stride=tuple(theta.shape[1:]), groups=c)
    out = torch.zeros(b, c, scale, scale)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            e = theta[:, : bottom - top, : right - left].exp()
            window = x[:, :, top:bottom, left:right]
            cell = torch.zeros(scale, scale)
            cell[i, j] = 1.0
            out = out + ((window * e).sum((2, 3)) / e.sum((1, 2)))[:, :, None, None] * cell
    return out


def hcd(o, w, s, t, step):
    n, theta, temperature = o["num_sub"], o["theta"], o["temperature"]
    terms = {}
    if o["w_kd"] > 0:
        terms["kd"] = kl(step.z_t, step.z_s, temperature)
    gt, distil, ol = [], [], []
    for level in o["levels"]:
        name = f"level{level}"
        f_s = head(
            w,
            f"{name}.head",
            s[level - 1],
            step.class_tokens[level - 1],
            step.student[level - 1]["kind"],
            level,
            step.d_s,
            max(step.d_s, step.d_t),
        )
        joint = torch.cat([f_s, step.f_t], -1)
        linear = lambda x, part, out: (
            x @ w(f"{name}.cfm.{part}.weight", out, x.shape[1]).T + w(f"{name}.cfm.{part}.bias", out)
        )
        if o["cfm"] == "mlp":
            u = linear(linear(joint, "fc1", step.d_t).relu(), "fc2", n * CLASSES)
        else:
            u = linear(joint, "fc", n * CLASSES)
        v = [o["lambda_s"] * chunk + o["lambda_t"] * step.z_t for chunk in u.chunk(n, -1)]
        gt.append(sum(F.cross_entropy(x, step.target, label_smoothing=step.smoothing) for x in v) / n)
        distil.append(sum(kl(x.detach() if o["detach_sub"] else x, step.z_s, temperature) for x in v) / n)
        if n > 1:
            g = []
            for x in v:
                keep = torch.ones(BATCH, CLASSES)
                keep[range(BATCH), step.index] = 0.0
                g.append(x * keep)
            pairs = [
                F.relu(F.cosine_similarity(g[i], g[j]) - theta).square().mean()
                for i in range(n)
                for j in range(n)
                if i != j
            ]
            ol.append(sum(pairs) / len(pairs))
    reduce = (lambda x: sum(x)) if o["reduce"] == "sum" else (lambda x: sum(x) / len(x))
    for key, values in (("gt", gt), ("hcd", distil), ("ol", ol)):
        if o[f"w_{key}"] > 0 and values:
            terms[key] = reduce(values)
    return terms


def head(w, name, x, classes, kind, level, d_s, d):
    """From a map (B,C,H,W) and its prefix tokens (B,P,C)."""
    if kind == "map":
        c = x.shape[1]
        if level == 4:
            return F.conv2d(x, w(f"{name}.pointwise.weight", d, c)[:, :, None, None]).mean((2, 3))
        for i in range(4 - level):
            c = x.shape[1]
            out = d if i == 3 - level else 2 * c
            for half, stride, width in (("down", 2, c), ("keep", 1, out)):
                x = F.conv2d(
                    x, w(f"{name}.{i}.{half}.depthwise.weight", c, 1, 3, 3), stride=stride, padding=1, groups=c
                )
                x = F.conv2d(x, w(f"{name}.{i}.{half}.pointwise.weight", width, c, 1, 1))
                x = F.relu(batch_norm(x, w, f"{name}.{i}.{half}.norm"))
        return x.mean((2, 3))
    # int(log2(side / 7)) merges; GELU after each except the last, and always after the first.
    merges = max(int(math.log2(max(x.shape[2:]) / 7)), 0)
    for merged in range(merges):
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1).permute(0, 2, 3, 1)
        c, part = x.shape[-1], f"{name}.merge.{merged}"
        x = F.layer_norm(x, (c,), w(f"{part}.norm.weight", c), w(f"{part}.norm.bias", c))
        x = (x @ w(f"{part}.reduction.weight", d_s, c).T).permute(0, 3, 1, 2)
        if merged == 0 or merged != merges - 1:
            x = F.gelu(x)
    x = torch.cat(
        [
            y
            if y.shape[-1] == d_s
            else y @ w(f"{name}.widen.weight", d_s, y.shape[-1]).T + w(f"{name}.widen.bias", d_s)
            for y in (classes, x.flatten(2).transpose(1, 2))
            if y.shape[1]
        ],
        1,
    )
    heads = max(n for n in (1, 2, 3, 4) if d_s % n == 0)
    for i in range(max(4 - level, 1)):
        x = block(w, f"{name}.blocks.{i}", x, heads)
    return x[:, 0] if classes.shape[1] else x.mean(1)


def block(w, name, x, heads):
    """timm's block with its own defaults: no bias of queries, keys and values."""
    d = x.shape[-1]
    norm = lambda x, part: F.layer_norm(x, (d,), w(f"{name}.{part}.weight", d), w(f"{name}.{part}.bias", d))
    linear = lambda x, part, out: x @ w(f"{name}.{part}.weight", out, x.shape[-1]).T + w(f"{name}.{part}.bias", out)
    q, k, v = (norm(x, "norm1") @ w(f"{name}.attn.qkv.weight", 3 * d, d).T).chunk(3, -1)
    out = []
    for part in range(heads):
        at = slice(part * d // heads, (part + 1) * d // heads)
        attention = (q[..., at] @ k[..., at].transpose(1, 2) / math.sqrt(d // heads)).softmax(-1)
        out.append(attention @ v[..., at])
    x = x + linear(torch.cat(out, -1), "attn.proj", d)
    return x + linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1", 4 * d)), "mlp.fc2", d)


def rsd(o, w, s, t, step):
    """Dimension by dimension."""
    d_s, d_t = step.d_s, step.d_t
    hidden = batch_norm(step.f_s @ w("hidden.weight", 2 * d_s, d_s).T, w, "norm")
    e = F.gelu(hidden) @ w("project.weight", d_t, 2 * d_s).T
    s, t = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-10).sqrt() for x in (e, step.f_t))
    r = lambda i, j: (t[:, i] * s[:, j]).sum() / BATCH
    return {
        "rsd": sum((r(i, j) - 1) ** 2 if i == j else o["kappa"] * r(i, j) ** 2 for i in range(d_t) for j in range(d_t))
    }


# --- cases
# --------------------------------------------------------------------------------------------------------------------

LEVELS = [1, 2, 3, 4]
DEFAULTS = {
    "kd": dict(temperature=1.0),
    "bkd": dict(reduce="mean"),
    "dkd": dict(alpha=1.0, beta=2.0, temperature=1.0),
    "dist": dict(beta=1.0, gamma=1.0, temperature=1.0),
    "hard": dict(smoothing=0.0),
    "fitnet": dict(levels=LEVELS, regressor="linear"),
    "vid": dict(levels=LEVELS, regressor="plain", variance=5.0, eps=1e-5),
    "reviewkd": dict(levels=LEVELS, embedding=True, max_width=512),
    "cc": dict(dim=128, form="kernel", gamma=0.4, order=2),
    "crd": dict(dim=128, tau=0.07, contrast="bank", num_negatives=16384, momentum=0.5, draw="shared"),
    "rsd": dict(kappa=0.01),
    "at": dict(levels=LEVELS),
    "sp": dict(levels=[4]),
    "rkd": dict(distance=25.0, angle=50.0),
    "pkt": dict(eps=1e-7),
    "nst": dict(levels=LEVELS),
    "ofa": dict(w_kd=1.0, w_ofa=1.0, eps=1.0, temperature=1.0, levels=LEVELS),
    "uhkd": dict(
        alpha=3.0,
        beta=100.0,
        temperature=1.0,
        levels=LEVELS,
        scaling="area",
        k=7,
        representation="complex",
        window="gaussian",
        sigma=0.5,
        normalise="sample",
        fam_grid="band",
        fam_mode="spectrum",
    ),
    "lfcc": dict(
        alpha=3.0,
        beta=3.0,
        temperature=1.0,
        levels=LEVELS,
        scales=[1, 2, 4],
        tau=0.07,
        tau_learnable=True,
        filter="learnable",
        symmetric=False,
        mask_same_class=False,
    ),
    "hcd": dict(
        w_kd=1.0,
        w_gt=1.0,
        w_hcd=6.0,
        w_ol=1.0,
        temperature=1.0,
        levels=LEVELS,
        num_sub=4,
        theta=0.5,
        lambda_s=1.0,
        lambda_t=1.0,
        cfm="mlp",
        detach_sub=True,
        reduce="mean",
    ),
}
CASES = [
    ("kd", "conv_conv", {}),
    ("kd", "conv_vit", dict(temperature=4.0)),
    *[("fitnet", pair, {}) for pair in PAIRS],
    ("fitnet", "conv_vit", dict(levels=[4, 2])),
    *[("uhkd", pair, {}) for pair in PAIRS],
    ("uhkd", "conv_conv", dict(representation="amplitude", k=5)),
    ("uhkd", "conv_vit", dict(representation="amplitude", fam_mode="direct", sigma=0.3)),
    ("uhkd", "vit_conv", dict(representation="log_amplitude", k=4, normalise="channel")),
    ("uhkd", "swin_vit", dict(representation="amplitude", k=6, normalise="none", window="none")),
    ("uhkd", "conv_conv", dict(representation="log_amplitude", window="ideal", k=6, levels=[1, 3])),
    ("uhkd", "conv_vit", dict(window="learnable", k=3)),
    ("uhkd", "swin_vit", dict(window="learnable", k=3, normalise="none", fam_mode="direct", temperature=2.0, beta=0.5)),
    ("uhkd", "vit_conv", dict(k=1, alpha=0.0)),
    ("uhkd", "vit_conv", dict(beta=0.0)),
    *[("lfcc", pair, {}) for pair in PAIRS],
    ("lfcc", "conv_vit", dict(filter="avgpool", symmetric=True)),
    ("lfcc", "vit_conv", dict(mask_same_class=True, symmetric=True, tau=0.2, tau_learnable=False)),
    ("lfcc", "swin_vit", dict(mask_same_class=True, scales=[3, 1], levels=[2, 1])),
    ("lfcc", "conv_conv", dict(alpha=0.0, scales=[5, 2, 1], tau_learnable=False)),
    ("lfcc", "conv_conv", dict(alpha=2.0, beta=0.0, temperature=3.0)),
    *[("hcd", pair, dict(detach_sub=False, reduce="sum")) for pair in PAIRS],
    ("hcd", "conv_vit", dict(cfm="linear", reduce="sum", temperature=2.0, theta=-0.2)),
    ("hcd", "vit_conv", dict(detach_sub=False, num_sub=2, lambda_s=0.7, lambda_t=0.4, theta=0.1, w_kd=0.0)),
    ("hcd", "swin_vit", dict(detach_sub=False, reduce="sum", num_sub=1, levels=[1, 4], w_gt=0.5)),
    ("hcd", "conv_conv", dict(reduce="sum", levels=[2, 3, 4], w_hcd=0.0, num_sub=3, theta=0.0)),
    ("uhkd", "conv_vit", dict(fam_grid="full")),
    ("uhkd", "vit_conv", dict(fam_grid="full", k=4, fam_mode="direct")),
    *[("ofa", pair, {}) for pair in PAIRS],
    ("ofa", "conv_vit", dict(eps=1.5, temperature=2.0, levels=[4, 1])),
    ("ofa", "vit_conv", dict(eps=1.5, w_kd=0.0, w_ofa=0.5)),
    ("ofa", "swin_vit", dict(w_ofa=0.0, eps=2.0)),
    *[("at", pair, {}) for pair in PAIRS],
    ("at", "conv_vit", dict(levels=[3])),
    *[("sp", pair, {}) for pair in PAIRS],
    ("sp", "vit_conv", dict(levels=[1, 3])),
    ("rkd", "conv_conv", {}),
    ("rkd", "vit_conv", dict(angle=0.0, distance=1.0)),
    ("rkd", "swin_vit", dict(distance=0.0)),
    *[("pkt", pair, dict(eps=1e-14)) for pair in PAIRS],
    *[("nst", pair, {}) for pair in PAIRS],
    ("nst", "vit_conv", dict(levels=[2, 4])),
    ("bkd", "conv_conv", {}),
    ("bkd", "conv_vit", dict(reduce="sum")),
    ("dkd", "conv_vit", {}),
    ("dkd", "vit_conv", dict(temperature=4.0, beta=8.0)),
    ("dkd", "swin_vit", dict(alpha=0.0, beta=1.0)),
    ("dkd", "conv_conv", dict(beta=0.0, temperature=2.0)),
    ("dist", "conv_conv", {}),
    ("dist", "vit_conv", dict(temperature=3.0, beta=0.5)),
    ("dist", "swin_vit", dict(gamma=0.0)),
    ("dist", "conv_vit", dict(beta=0.0)),
    ("hard", "conv_vit", {}),
    ("hard", "vit_conv", dict(smoothing=0.1)),
    ("uhkd", "conv_vit", dict(scaling="ortho", normalise="none", representation="log_amplitude")),
    ("uhkd", "vit_conv", dict(scaling="none", representation="log_amplitude", fam_grid="full")),
    *[("vid", pair, {}) for pair in PAIRS],
    ("vid", "swin_vit", dict(levels=[3, 1], eps=0.1)),
    *[("reviewkd", pair, {}) for pair in PAIRS],
    ("reviewkd", "conv_vit", dict(embedding=False, max_width=3)),
    ("reviewkd", "vit_conv", dict(levels=[1, 3])),
    *[("cc", pair, {}) for pair in PAIRS],
    ("cc", "conv_vit", dict(gamma=1.5, order=5, dim=7)),
    ("cc", "vit_conv", dict(form="neighbours")),
    *[("crd", pair, {}) for pair in PAIRS],
    ("crd", "conv_vit", dict(draw="own", num_negatives=9, dim=16, tau=0.5)),
    ("crd", "vit_conv", dict(num_negatives=64, tau=0.2)),
    *[("crd", pair, dict(contrast="batch", dim=12)) for pair in ("conv_conv", "swin_vit")],
    *[("hcd", pair, {}) for pair in PAIRS],
    *[("vid", pair, dict(regressor="norm")) for pair in ("conv_conv", "vit_conv")],
    *[
        ("fitnet", pair, dict(regressor="conv_bn_relu", levels=levels))
        for pair, levels in (("conv_conv", LEVELS), ("conv_vit", [1, 2]), ("vit_conv", [1, 2, 3, 4]))
    ],
    *[("rsd", pair, {}) for pair in PAIRS],
    ("rsd", "vit_conv", dict(kappa=0.5)),
    # Mixed labels, and a class token carried past one and past several mergers.
    *[("ofa", pair, dict(eps=1.5)) for pair in MERGING],
    *[("hcd", pair, {}) for pair in MERGING],
    *[("uhkd", pair, {}) for pair in MERGING],
    ("uhkd", "vit_conv", dict(fam_mode="direct", normalise="channel")),
]


class Step:
    pass


def run(i, method, pair, changes, stored, out):
    """One case: terms and the gradient of their weighted sum. Odd cases have mixed labels and label smoothing."""
    settings, w, step, spec = {**DEFAULTS[method], **changes}, Params(), Step(), ALL[pair]
    raw = {
        k: stored[f"{pair}/{k}"].clone().requires_grad_()
        for k in ["student.logits", "student.embedding"] + [f"student.stage{i}" for i in LEVELS]
    }
    step.student, step.d_s, step.d_t = spec["student"], spec["d_s"], spec["d_t"]
    step.z_s, step.z_t = raw["student.logits"], stored[f"{pair}/teacher.logits"]
    step.f_s, step.f_t = raw["student.embedding"], stored[f"{pair}/teacher.embedding"]
    labels, step.smoothing = ("soft", 0.1) if i % 2 else ("hard", 0.0)
    step.target = stored[f"{pair}/{labels}"]
    step.index = step.target if labels == "hard" else step.target.argmax(-1)
    s = [as_map(raw[f"student.stage{i + 1}"], x) for i, x in enumerate(spec["student"])]
    step.class_tokens = [
        raw[f"student.stage{i + 1}"][:, : x["prefix"]] if x["kind"] == "tokens" else None
        for i, x in enumerate(spec["student"])
    ]
    t = [as_map(stored[f"{pair}/teacher.stage{i + 1}"], x) for i, x in enumerate(spec["teacher"])]
    terms = globals()[method](settings, w, s, t, step)
    weights = {
        "kd": settings.get("alpha", settings.get("w_kd", 1.0)),
        "freq": settings.get("beta"),
        "con": settings.get("beta"),
        "feature": 1.0,
    }
    weights |= {
        "tckd": settings.get("alpha"),
        "nckd": settings.get("beta"),
        "inter": settings.get("beta"),
        "intra": settings.get("gamma"),
        "hard": 1.0,
    }
    weights |= {"vid": 1.0, "review": 1.0, "cc": 1.0, "crd": 1.0, "rsd": 1.0}
    weights |= {
        "attention": 1.0,
        "similarity": 1.0,
        "selectivity": 1.0,
        "distance": settings.get("distance"),
        "angle": settings.get("angle"),
    }
    weight = lambda term: settings.get(f"w_{term}", weights.get(term))
    sum(weight(name) * value for name, value in terms.items()).backward()
    case = f"case{i}"
    for name, value in terms.items():
        out[f"{case}/term.{name}"] = value.detach()
    for name, x in raw.items():
        if x.grad is not None:
            out[f"{case}/grad.{name}"] = x.grad
    # A weight's gradient is stored as its product with a fixed pattern.
    for name, p in w.tensors.items():
        pattern = torch.tensor([math.cos(0.7 * i) for i in range(p.numel())])
        out[f"{case}/param.{name}"] = (p.grad.flatten() * pattern).sum()
    return dict(
        name=case,
        method=method,
        pair=pair,
        settings=changes,
        labels=labels,
        smoothing=step.smoothing,
        weights={k: weight(k) for k in terms},
    )


def main():
    out = {}
    for pair in ALL:
        inputs(pair, out)
    cases = [run(i, *case, dict(out), out) for i, case in enumerate(CASES)]
    metadata = {
        "torch": torch.__version__,
        "pairs": json.dumps(ALL),
        "cases": json.dumps(cases),
        "classes": str(CLASSES),
        "samples": json.dumps(SAMPLES),
        "num_samples": str(NUM_SAMPLES),
    }
    save_file({k: v.contiguous() for k, v in out.items()}, Path(__file__).with_name("methods.safetensors"), metadata)


if __name__ == "__main__":
    main()
