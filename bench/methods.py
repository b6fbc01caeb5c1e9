"""KD, UHKD, LFCC and HCD with heterodyne's defaults, for speed: vectorised, and nothing waits for the device.

Every method is a module that is called with student and teacher output, each (logits (B,C), embedding (B,D), four
stages as in networks.py), and int64 labels (B), and returns its weighted loss. Learnable parts run under the caller's
autocast, loss arithmetic in float32. The names in `state_dict` are those of heterodyne's heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = (1, 2, 3, 4)


def float_kind(x):
    """float32, or float64 where x is."""
    return x if x.dtype == torch.float64 else x.float()


def exact(x):
    """Autocast off, for the loss arithmetic."""
    return torch.autocast(x.device.type, enabled=False)


def as_map(stage):
    """(B,C,H,W), without a class token."""
    return stage if isinstance(stage, torch.Tensor) else stage[0]


def kl(p_logits, q_logits):
    """KL(softmax(p) || softmax(q)), sum over everything; shapes broadcast."""
    p, q = (F.log_softmax(float_kind(z), -1) for z in (p_logits, q_logits))
    return F.kl_div(q, p, reduction="sum", log_target=True)


def kd(z_s, z_t):
    """KL(p_t || p_s), sum over classes and mean over the batch."""
    return kl(z_t, z_s) / len(z_s)


class Kd(nn.Module):
    """Hinton et al. 2015, temperature 1."""

    reads_student_maps = reads_teacher_maps = False

    def __init__(self, spec):
        super().__init__()

    def forward(self, student, teacher, labels):
        with exact(student[0]):
            return kd(student[0], teacher[0])


# --- UHKD
# --------------------------------------------------------------------------------------------------------------------


def highest(k, a, b):
    """The highest of the at most `k` frequencies, each with its negative, that axes of `a` and `b` places share."""
    return (min(k, a, b) - 1) // 2


def fourier(grid, us, vs):
    """The transform as one matrix (2 K K', H W): real parts, then imaginary parts, each divided by H W; angles from the
    image's edge."""
    (h, w), f64 = grid, torch.float64
    turns = torch.tensor(us, dtype=f64)[:, None] * (torch.arange(h, dtype=f64) + 0.5) / h
    turns_w = torch.tensor(vs, dtype=f64)[:, None] * (torch.arange(w, dtype=f64) + 0.5) / w
    angle = -2 * math.pi * (turns[:, None, :, None] + turns_w[None, :, None, :]).remainder(1)
    return torch.stack([angle.cos(), angle.sin()]).reshape(2 * len(us) * len(vs), h * w) / (h * w)


def largest_block(n, top):
    """The largest divisor of `n` that leaves more than twice `top` places, or 1."""
    return max([f for f in range(1, n + 1) if n % f == 0 and n // f > 2 * top], default=1)


class UhkdLevel(nn.Module):
    """FAM and FTM of one level: the Gaussian-weighted low band of the projected student and of the teacher,
    standardised. The projection sees the student's map averaged over blocks, as coarse as the band allows. Half the
    plane is computed, and what stands for two bins is multiplied by the root of 2."""

    def __init__(self, student, teacher, k=7):
        super().__init__()
        c_s, c_t = student.channels, teacher.channels
        self.project = nn.Conv2d(c_s, c_t, 1, bias=False)
        self.norm = nn.BatchNorm2d(c_t)
        self.depthwise = nn.Conv2d(c_t, c_t, 3, padding=1, groups=c_t, bias=False)
        self.last = nn.Linear(c_t, c_t)
        tops = [highest(k, a, b) for a, b in zip(student.grid, teacher.grid)]
        us, vs = range(-tops[0], tops[0] + 1), range(tops[1] + 1)
        self.block = tuple(largest_block(n, top) for n, top in zip(student.grid, tops))
        self.share = len(vs) / (2 * len(vs) - 1)
        coarse = tuple(n // f for n, f in zip(student.grid, self.block))
        gaussian = torch.tensor(
            [[math.exp(-(u * u + v * v) / (2 * (0.5 * k) ** 2)) for v in vs] for u in us], dtype=torch.float64
        )
        # The weights are constants too, and go into the matrix.
        roots = torch.tensor([[1.0 if v == 0 else math.sqrt(2) for v in vs] for u in us], dtype=torch.float64)
        weight = (gaussian * roots).flatten().repeat(2)[:, None]
        # The mean is that of the real parts.
        real = torch.cat([roots.flatten(), torch.zeros(roots.numel())])
        self.register_buffer("real", real.to(torch.get_default_dtype())[:, None], persistent=False)
        for name, grid in (("student", coarse), ("teacher", teacher.grid)):
            self.register_buffer(
                f"{name}_dft", (weight * fourier(grid, us, vs)).to(torch.get_default_dtype()), persistent=False
            )

    def represent(self, matrix, x):
        """(B,C,H,W) to the standardised band (B,2KK',C)."""
        band = matrix @ float_kind(x).flatten(2).transpose(1, 2)
        mean = (self.real.T @ band).mean((1, 2), keepdim=True) * (2 * self.share / len(self.real))
        band = band - mean * self.real
        return band * (band.square().mean((1, 2), keepdim=True) * self.share + 1e-6).rsqrt()

    def forward(self, x, y):
        if self.block != (1, 1):
            x = F.avg_pool2d(x, self.block)
        z = self.depthwise(F.relu(self.norm(self.project(x)), inplace=True))
        z = F.conv2d(z, self.last.weight[:, :, None, None], self.last.bias)
        with exact(x):
            with torch.no_grad():
                target = self.represent(self.teacher_dft, y)
            return F.mse_loss(self.represent(self.student_dft, z), target) * self.share


class Uhkd(nn.Module):
    """Frequency-domain distillation (arXiv 2510.24116)."""

    reads_student_maps = reads_teacher_maps = True

    def __init__(self, spec):
        super().__init__()
        for level, student, teacher in zip(LEVELS, spec.student, spec.teacher):
            self.add_module(f"level{level}", UhkdLevel(student, teacher))

    def forward(self, student, teacher, labels):
        levels = [level(as_map(x), as_map(y)) for level, x, y in zip(self.children(), student[2], teacher[2])]
        with exact(student[0]):
            return 3 * kd(student[0], teacher[0]) + 100 * torch.stack(levels).mean()


# --- LFCC
# --------------------------------------------------------------------------------------------------------------------


def windows(n, s):
    """(start, end) of adaptive pooling's windows."""
    return [(i * n // s, -(-(i + 1) * n // s)) for i in range(s)]


class LfccScale(nn.Module):
    """The student's filter of one scale: a softmax kernel per channel, and its projection psi."""

    def __init__(self, student, c_t, s):
        super().__init__()
        h, w = student.grid
        boxes = [(rows, columns) for rows in windows(h, s) for columns in windows(w, s)]
        size = max(b - a for a, b in windows(h, s)), max(b - a for a, b in windows(w, s))
        self.theta = nn.Parameter(torch.zeros(student.channels, *size))
        self.project = nn.Linear(student.channels, c_t, bias=False)
        self.norm = nn.BatchNorm1d(c_t)
        # Cell (i,j) of the kernel lies at place (top + i, left + j) of its window; cells outside the window have no
        # place.
        inside = torch.zeros(len(boxes), *size, dtype=torch.bool)
        places = []
        for k, ((top, bottom), (left, right)) in enumerate(boxes):
            inside[k, : bottom - top, : right - left] = True
            places += [(k * h + y) * w + x for y in range(top, bottom) for x in range(left, right)]
        self.num_windows, self.num_places, self.ragged = len(boxes), h * w, not bool(inside.all())
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("outside", ~inside.flatten(1), persistent=False)
        self.register_buffer("cells", inside.flatten().nonzero().squeeze(1), persistent=False)

    def filters(self):
        """(C, windows, places); rows sum to 1."""
        theta = self.theta.flatten(1)
        if self.ragged:
            weights = (
                theta[:, None].masked_fill(self.outside, -torch.inf).softmax(-1).flatten(1).index_select(1, self.cells)
            )
        else:
            weights = theta.softmax(-1).repeat(1, self.num_windows)
        empty = weights.new_zeros(len(theta), self.num_windows * self.num_places)
        return empty.index_copy(1, self.places, weights).unflatten(1, (self.num_windows, -1))

    def psi(self, x_bkc):
        """(B,K,C) to (B,K,C')."""
        return self.norm(self.project(x_bkc).flatten(0, 1)).unflatten(0, (-1, self.num_windows))


class LfccLevel(nn.Module):
    """Cosines between the low-frequency parts of student and teacher, for every scale that both grids hold."""

    def __init__(self, student, teacher, scales=(1, 2, 4)):
        super().__init__()
        self.scales = [s for s in scales if s <= min(*student.grid, *teacher.grid)]
        for s in self.scales:
            self.add_module(f"scale{s}", LfccScale(student, teacher.channels, s))

    def forward(self, x, y):
        """A list of (B,B), the student's images along the rows."""
        scales = list(self.children())
        filters = torch.cat([scale.filters() for scale in scales], 1)
        low = torch.matmul(float_kind(x).flatten(2).permute(1, 0, 2), filters.transpose(1, 2)).permute(1, 2, 0)
        cosines = []
        for s, scale, part in zip(self.scales, scales, low.split([scale.num_windows for scale in scales], 1)):
            with torch.no_grad():
                k = F.normalize(F.adaptive_avg_pool2d(float_kind(y), s).flatten(2).transpose(1, 2).flatten(1), eps=1e-6)
            cosines.append(F.normalize(scale.psi(part).flatten(1), eps=1e-6) @ k.T)
        return cosines


class Lfcc(nn.Module):
    """Contrast of low-frequency components (arXiv 2405.18524)."""

    reads_student_maps = reads_teacher_maps = True

    def __init__(self, spec, tau=0.07):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(tau)))
        for level, student, teacher in zip(LEVELS, spec.student, spec.teacher):
            self.add_module(f"level{level}", LfccLevel(student, teacher))

    def forward(self, student, teacher, labels):
        with exact(student[0]):
            cosines = [
                m for level, x, y in zip(self.children(), student[2], teacher[2]) for m in level(as_map(x), as_map(y))
            ]
            own = -F.log_softmax(torch.stack(cosines) * self.logit_scale.clamp(max=math.log(100)).exp(), -1).diagonal(
                dim1=1, dim2=2
            )
            return 3 * kd(student[0], teacher[0]) + 3 * own.mean()


# --- HCD
# --------------------------------------------------------------------------------------------------------------------


class Separable(nn.Module):
    """Depthwise 3x3, 1x1, BN, ReLU."""

    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x):
        return F.relu(self.norm(self.pointwise(self.depthwise(x))), inplace=True)


class SepConv(nn.Module):
    """OFA-KD's separable convolution that halves the grid."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.down, self.keep = Separable(channels_in, channels_in, 2), Separable(channels_in, channels_out, 1)

    def forward(self, x):
        return self.keep(self.down(x))


class ConvHead(nn.Module):
    """4 - level halvings, channels doubling up to the last, then the mean over places."""

    def __init__(self, channels, level, width):
        super().__init__()
        steps = 4 - level
        for i in range(steps):
            self.add_module(str(i), SepConv(channels << i, width if i == steps - 1 else channels << (i + 1)))

    def forward(self, x):
        for conv in self.children():
            x = conv(x)
        return x.mean((2, 3))


class LastHead(nn.Module):
    """A 1x1 convolution and the mean over places, the mean first: both are linear, and this order costs less."""

    def __init__(self, channels, width):
        super().__init__()
        self.pointwise = nn.Linear(channels, width, bias=False)

    def forward(self, x):
        return self.pointwise(x.mean((2, 3)))


class Merge(nn.Module):
    """Swin's patch merging, with a GELU where asked for: (B,H,W,C) to half the grid, zeros filling an odd one."""

    def __init__(self, width_in, width, gelu):
        super().__init__()
        self.act = nn.GELU() if gelu else nn.Identity()
        self.norm = nn.LayerNorm(4 * width_in)
        self.reduction = nn.Linear(4 * width_in, width, bias=False)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 2, 4, 5).flatten(3)
        return self.act(self.reduction(self.norm(x)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width), heads

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block with timm's defaults."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenHead(nn.Module):
    """OFA-KD's: patch merging as long as 14 places or more are left along a side, transformer blocks, and of these the
    class token, or the mean over places if there is none."""

    def __init__(self, stage, level, width):
        super().__init__()
        merges = max(int(math.log2(max(stage.grid) / 7)), 0)
        gelu = lambda i: i == 0 or i != merges - 1
        self.merge = nn.Sequential(*(Merge(width if i else stage.channels, width, gelu(i)) for i in range(merges)))
        same = stage.channels == width or (merges > 0 and not stage.classes)
        self.widen = nn.Identity() if same else nn.Linear(stage.channels, width)
        heads = max(n for n in (1, 2, 3, 4) if width % n == 0)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(max(4 - level, 1))))

    def forward(self, stage):
        x = self.merge(as_map(stage).permute(0, 2, 3, 1)).flatten(1, 2)
        if len(self.merge) == 0:
            x = self.widen(x)
        if isinstance(stage, torch.Tensor):
            return self.blocks(x).mean(1)
        return self.blocks(torch.cat([self.widen(stage[1]).to(x.dtype), x], 1))[:, 0]


class Cfm(nn.Module):
    """Complementary feature mapper: two linear maps with a ReLU between them."""

    def __init__(self, width, hidden, out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x), inplace=True))


class HcdLevel(nn.Module):
    def __init__(self, stage, level, d_s, d_t, outputs):
        super().__init__()
        if stage.tokens:
            self.head, width = TokenHead(stage, level, d_s), d_s
        else:
            width = max(d_s, d_t)
            self.head = LastHead(stage.channels, width) if level == 4 else ConvHead(stage.channels, level, width)
        self.cfm = Cfm(width + d_t, d_t, outputs)

    def forward(self, x, f_t):
        f_s = self.head(x)
        return self.cfm(torch.cat([f_s, f_t.to(f_s.dtype)], 1))


class Hcd(nn.Module):
    """Complementary distillation (arXiv 2511.10942)."""

    reads_student_maps, reads_teacher_maps = True, False

    def __init__(self, spec, num_sub=4, theta=0.5, w_hcd=6.0):
        super().__init__()
        self.num_sub, self.theta, self.w_hcd = num_sub, theta, w_hcd
        for level, stage in zip(LEVELS, spec.student):
            self.add_module(f"level{level}", HcdLevel(stage, level, spec.d_s, spec.d_t, num_sub * spec.classes))
        self.register_buffer("others", (1 - torch.eye(num_sub)) / (num_sub * (num_sub - 1)), persistent=False)

    def forward(self, student, teacher, labels):
        (z_s, _, maps), (z_t, f_t, _) = student, teacher
        u = torch.stack([level(x, f_t) for level, x in zip(self.children(), maps)], 1)
        with exact(z_s):
            v = float_kind(u).unflatten(-1, (self.num_sub, -1)) + float_kind(z_t)[:, None, None]  # (B,S,n,C)
            b, s, n, c = v.shape
            # The mean over levels; hcd only teaches the student.
            gt = F.cross_entropy(v.flatten(0, 2), labels.repeat_interleave(s * n))
            hcd = kl(v.detach(), z_s[:, None, None]) / (b * s * n)
            g = F.normalize(v.scatter(3, labels[:, None, None, None].expand(b, s, n, 1), 0.0), dim=-1, eps=1e-6)
            cosine = g @ g.transpose(2, 3)
            ol = (F.relu(cosine - self.theta).square() * self.others).sum() / (b * s)
            return kd(z_s, z_t) + gt + self.w_hcd * hcd + ol


METHODS = dict(kd=Kd, uhkd=Uhkd, lfcc=Lfcc, hcd=Hcd)


class Spec:
    """What a method is built from: stages of both networks, widths of their embeddings, classes."""

    def __init__(self, student, teacher, d_s, d_t, classes):
        self.student, self.teacher, self.d_s, self.d_t, self.classes = student, teacher, d_s, d_t, classes


def build(name, spec):
    """The method's module; its learnable parts start as PyTorch's layers do."""
    if name not in METHODS:
        raise ValueError(f"no method {name}; known are {', '.join(METHODS)}")
    return METHODS[name](spec)
