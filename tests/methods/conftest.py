"""Small networks of every layout, and what their target layer holds, image by image in float64."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Network(NamedTuple):
    """A network in float64, its target layer, and that layer's output as [B, D, 4, 4]."""

    model: nn.Module
    layer: str
    to_map: Callable[[Tensor], Tensor]

    def seen(self, image: Tensor, score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Features [D, 4, 4] of one image [C, H, W] and the gradient there of a score of y [N]."""
        outputs = []
        handle = self.model.get_submodule(self.layer).register_forward_hook(
            lambda _module, _inputs, output: outputs.append(output)
        )
        logits = self.model(image[None])[0]
        handle.remove()
        (gradient,) = torch.autograd.grad(score(logits), outputs[0])
        return self.to_map(outputs[0])[0].detach(), self.to_map(gradient)[0]


def channels_first() -> Network:
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 4, stride=4), nn.ReLU()),
        *(nn.Conv2d(6, 8, 2, stride=2), nn.SiLU()),
        *(nn.Flatten(), nn.Linear(128, 12), nn.GELU(), nn.Linear(12, 10)),
    )
    return Network(model, "3", lambda output: output)


def channels_last() -> Network:
    model = SwinTransformer(
        img_size=32, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4, num_classes=10
    )
    return Network(model, "norm", lambda output: output.permute(0, 3, 1, 2))


def tokens() -> Network:
    """With a class token and two registers in front of the 16 patches."""
    options = {"embed_dim": 12, "depth": 2, "num_heads": 2, "reg_tokens": 2, "num_classes": 10}
    model = VisionTransformer(img_size=32, patch_size=8, **options)
    return Network(
        model,
        "blocks.1.norm1",
        lambda output: torch.stack([output[:, 3 + 4 * i : 7 + 4 * i] for i in range(4)], 1).permute(
            0, 3, 1, 2
        ),
    )


@pytest.fixture(params=[channels_first, channels_last, tokens])
def network(request) -> Network:
    torch.manual_seed(0)
    found = request.param()
    head = [module for module in found.model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight)  # timm starts with a head too small to tell classes apart
    return found._replace(model=found.model.double().eval())


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)


@pytest.fixture
def classes() -> Tensor:
    return torch.tensor([[1, 7, 4], [0, 0, 9]])
