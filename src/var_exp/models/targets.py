"""Find the last spatial feature map of a model by watching one forward pass.

Nothing is decided by class names. A module's output is spatial when its shape says so:

    channels first  [B, D, h, w]  with h : w as in the image (CNNs)
    channels last   [B, h, w, D]  likewise (Swin)
    tokens          [B, p + h w, D] (ViTs): (h, w) is the last channels-first map seen before, the
                    patch embedding; the p tokens in front (class, registers, distillation) are
                    prefix

The target is the last such output, in the order of execution, that the logits depend on at spatial
positions. In a ViT that reads out its class token this is the normalisation before the last
attention, since the patch tokens of anything later are thrown away; with average pooling it is the
last output.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from var_exp.models.frozen import frozen
from var_exp.types import ConfigError, Images, UnsupportedModel

Layout: TypeAlias = Literal["channels_first", "channels_last", "tokens"]


@dataclass(frozen=True)
class Target:
    """A layer with a spatial output, and how to read that output.

    Attributes:
        name: Dotted name of the module in the model.
        layout: Order of the output's axes.
        grid: (h, w) of the feature map.
        prefix: Tokens in front of the spatial ones; 0 for the other layouts.
        run: Which run of the module, from 0: a model may use an activation again.
    """

    name: str
    layout: Layout
    grid: tuple[int, int]
    prefix: int = 0
    run: int = 0

    def to_map(self, output: Float[Tensor, "B ..."]) -> Float[Tensor, "B D h w"]:
        """Bring the layer's output (or its gradient) to channels first, without prefix tokens."""
        if self.layout == "channels_first":
            return output
        if self.layout == "channels_last":
            return output.permute(0, 3, 1, 2)
        tokens = output[:, self.prefix :]
        return tokens.transpose(1, 2).reshape(len(output), -1, *self.grid)


def find_target(model: nn.Module, image: Images, layer: str | None = None) -> Target:
    """Find the layer for class activation maps, and where its spatial positions are.

    Costs one forward pass of the image and a backward pass through the layers after the one found.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W].
        layer: Dotted module name to use in place of the one found.

    Raises:
        ConfigError: the model has no module of that name.
        UnsupportedModel: no output, or not that of `layer`, is a spatial map behind the logits.
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise ConfigError(
            f"{type(model).__name__} has no module '{layer}'; "
            "take a name from model.named_modules()."
        )
    outputs, logits = _trace(model, image)
    for output in reversed(outputs):
        if (output.eligible if layer is None else output.target.name == layer) and _reaches(
            output, logits
        ):
            return output.target
    raise UnsupportedModel(
        f"no spatial feature map that the logits depend on was found in {type(model).__name__}"
        + (f" at layer '{layer}'; leave layer out" if layer else "; name one with layer=…")
        + ", or use another method."
    )


@dataclass
class _Output:
    """A spatial output seen during the trace."""

    target: Target
    eligible: bool
    edge: GradientEdge  # where it enters the graph, also when a later layer overwrites it


def _trace(model: nn.Module, image: Tensor) -> tuple[list[_Output], Tensor]:
    """Spatial outputs of all modules in order of execution, and the logits, with their graph."""
    outputs: list[_Output] = []
    grids: list[tuple[int, int]] = []
    kept: list[Tensor] = []  # values of the last eligible output
    n_runs: Counter[str] = Counter()

    def see(name: str, module: nn.Module, output: object) -> None:
        n_runs[name] += 1
        if not isinstance(output, Tensor) or not output.requires_grad or len(output) != len(image):
            return
        target = _read(name, output, image.shape[2:], grids)
        if target is None:
            return
        target = replace(target, run=n_runs[name] - 1)
        eligible = _is_feature(module, target, output, kept)
        if eligible:
            if target.layout == "channels_first":
                grids.append(target.grid)
            kept[:] = [output.detach().clone()]  # cloned: a later layer may overwrite it
        outputs.append(_Output(target, eligible, get_gradient_edge(output)))

    with torch.inference_mode(False), torch.enable_grad(), frozen(model), _watching(model, see):
        logits = model(image.detach().clone().requires_grad_().clone())
    traced = isinstance(logits, Tensor) and logits.requires_grad
    return (outputs if traced else []), logits


def _reaches(output: _Output, logits: Tensor) -> bool:
    """Whether the logits depend on an output at spatial positions."""
    with torch.inference_mode(False), torch.autograd.set_detect_anomaly(False):
        # NaN marks whatever the logits depend on, also through a head whose weights are still zero
        (marks,) = torch.autograd.grad(
            logits,
            output.edge,
            torch.full_like(logits, torch.nan),
            retain_graph=True,
            allow_unused=True,
        )
        return marks is not None and bool(output.target.to_map(marks).isnan().any())


@contextmanager
def _watching(model: nn.Module, see: Callable[[str, nn.Module, object], None]) -> Iterator[None]:
    """Call `see` with the name, module and output of every module that runs."""

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, _inputs, output: see(name, module, output)

    handles = [
        module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read(
    name: str, output: Tensor, size: torch.Size, grids: list[tuple[int, int]]
) -> Target | None:
    """How a module's output is laid out over the image; None when it is not spatial."""
    shape = output.shape
    if output.ndim == 4:
        if _fits(shape[2], shape[3], size):
            return Target(name, "channels_first", (shape[2], shape[3]))
        if _fits(shape[1], shape[2], size):
            return Target(name, "channels_last", (shape[1], shape[2]))
    if output.ndim == 3 and grids:
        h, w = grids[-1]
        if h * w <= shape[1]:
            return Target(name, "tokens", (h, w), prefix=shape[1] - h * w)
    return None


def _fits(h: int, w: int, size: torch.Size) -> bool:
    """Whether h x w positions are a grid over an image of that size, up to rounding."""
    height, width = size
    tolerance = 0 if height == width else 1
    return 1 < h * w <= height * width and abs(w - h * width / height) <= tolerance


def _is_feature(module: nn.Module, target: Target, output: Tensor, kept: list[Tensor]) -> bool:
    """Whether an output is a feature map in its own right.

    Not one is a bare linear projection (queries, keys, values) other than a convolution.
    Of modules without parameters count only those that change values but not the shape, such as an
    activation: pooling for the head and identities are left out.
    """
    if target.layout != "channels_first" and not list(module.children()):
        own = [parameter.ndim for parameter in module.parameters(recurse=False)]
        if own and max(own) > 1:
            return False
    if any(True for _ in module.parameters()):
        return True
    return bool(kept) and kept[0].shape == output.shape and not torch.equal(kept[0], output)
