"""Networks that nobody writes twice, by name."""

import torch
import torchvision.ops
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """A forward pass as a function of the parts."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def conv(before, after, size=3, stride=1):
    layer = nn.Conv2d(before, after, size, stride, size // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(after), nn.ReLU())


def pooled(width=16):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 6))


def small():
    return nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), conv(12, 16, 3, 2), pooled())


def block(width=16):
    return nn.TransformerEncoderLayer(width, 2, 32, 0.0, batch_first=True, norm_first=True)


def tokens(run, **parts):
    """Tokens of 8 x 8 px, what is done to them, and their mean."""
    return Net(
        lambda m, x: m.head(m.norm(run(m, m.embed(x).flatten(2).mT)).mean(1)),
        **{"embed": nn.Conv2d(3, 16, 8, 8), "norm": nn.LayerNorm(16), "head": nn.Linear(16, 6)},
        **parts,
    )


def shifted_windows(m, x):
    """Windows of 7 x 7 on 16 x 16 positions, padded to 21 x 21, the second time shifted by 3."""
    t = m.embed(x).permute(0, 2, 3, 1)
    for shift, attend in zip((0, 3), m.blocks, strict=True):
        u = functional.pad(t, (0, 0, 0, 5, 0, 5)).roll((-shift, -shift), (1, 2))
        u = u.unflatten(1, (3, 7)).unflatten(3, (3, 7)).transpose(2, 3).flatten(3, 4).flatten(0, 2)
        u = attend(u).unflatten(0, (-1, 3, 3)).unflatten(3, (7, 7)).transpose(2, 3)
        t = t + u.flatten(1, 2).flatten(2, 3).roll((shift, shift), (1, 2))[:, :16, :16]
    return m.head(m.norm(t).mean((1, 2)))


def kept_tokens(m, t):
    t = m.block(t)
    best = t.norm(dim=2).topk(16, 1).indices
    return t.gather(1, best[:, :, None].expand(-1, -1, 16))


def scan(m, t):
    gate, state, states = m.gate(t).sigmoid(), t[:, 0] * 0, []
    for i in range(t.shape[1]):
        state = gate[:, i] * state + (1 - gate[:, i]) * t[:, i]
        states.append(state)
    return torch.stack(states, 1)


class Deformable(nn.Module):
    def __init__(self):
        super().__init__()
        self.offset, self.weight = (
            nn.Conv2d(16, 18, 3, 1, 1),
            nn.Parameter(torch.randn(16, 16, 3, 3)),
        )

    def forward(self, x):
        return torchvision.ops.deform_conv2d(x, self.offset(x), self.weight / 10, padding=1)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.sigmoid() * (1 + x * (1 - x.sigmoid())))


def views(m, x):
    """Two views of each picture as one batch, the views apart."""
    return sum(m.net(torch.cat([x, x.flip(3)])).chunk(2)) / 2


def normed():
    norms = nn.utils.parametrizations
    return nn.Sequential(
        *(norms.spectral_norm(nn.Conv2d(3, 8, 4, 4)), nn.ReLU()),
        *(norms.weight_norm(nn.Conv2d(8, 16, 3, 1, 1)), nn.ReLU(), pooled()),
    )


NETWORKS = {
    "shifted windows of odd size": lambda: Net(
        shifted_windows,
        embed=nn.Conv2d(3, 24, 4, 4),
        blocks=nn.ModuleList([block(24), block(24)]),
        norm=nn.LayerNorm(24),
        head=nn.Linear(24, 6),
    ),
    "space to depth": lambda: nn.Sequential(nn.PixelUnshuffle(4), conv(48, 16), pooled()),
    "pruned tokens": lambda: tokens(kept_tokens, block=block()),
    "Fourier mixer": lambda: tokens(lambda m, t: t + torch.fft.fft2(t).real / 10),
    "scan": lambda: tokens(scan, gate=nn.Linear(16, 16)),
    "deformable": lambda: nn.Sequential(conv(3, 16, 3, 4), Deformable(), nn.ReLU(), pooled()),
    "own autograd function": lambda: Net(
        lambda m, x: m.head(Swish.apply(m.stem(x))), stem=nn.Conv2d(3, 16, 4, 4), head=pooled()
    ),
    "views as a batch": lambda: Net(views, net=small()),
    "normalises inside": lambda: Net(
        lambda m, x: m.net((x - x.mean((2, 3), True)) / x.std((2, 3), keepdim=True)), net=small()
    ),
    "spectral and weight norm": normed,
    "data parallel": lambda: nn.DataParallel(small()),
    "mapped over pictures": lambda: Net(
        lambda m, x: torch.func.vmap(lambda each: m.net(each[None])[0])(x),
        net=nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), pooled()),
    ),
    "distances": lambda: Net(
        lambda m, x: -torch.cdist(m.stem(x).flatten(2).mT, m.points.expand(len(x), -1, -1)).amin(1),
        stem=conv(3, 16, 3, 4),
        points=nn.Parameter(torch.randn(6, 16)),
    ),
}


def made(name):
    torch.manual_seed(2)
    return NETWORKS[name]().eval()
