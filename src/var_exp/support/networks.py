"""What a method is tried on: a network of its own in float64, two images, a few classes."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from var_exp.engine.scores import check_logits
from var_exp.models import input_spec
from var_exp.types import ConfigError, UnsupportedModel

_SMALL = 64  # px: two positions along a side after stride 32
_USUAL = 224  # px, of a network that does not say
_CLASSES = 4
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Subject:
    """A network with two images and K classes for each.

    Attributes:
        name: Of the network.
        model: float64, in eval mode, frozen.
        images: [2, C, H, W] float64.
        classes: [2, K] int64.
        state: Copy of the model's parameters and buffers.
        hooks: How many hooks its modules had.
    """

    name: str
    model: nn.Module
    images: Tensor
    classes: Tensor
    state: dict[str, Tensor] = field(init=False, repr=False)
    hooks: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", deepcopy(self.model.state_dict()))  # the class is frozen
        object.__setattr__(self, "hooks", _hooks(self.model))

    def untouched(self) -> bool:
        """Whether values, flags, gradients and hooks of the model are as they were."""
        now = self.model.state_dict()
        return (
            now.keys() == self.state.keys()
            and all(torch.equal(value, self.state[name]) for name, value in now.items())
            and not any(p.requires_grad or p.grad is not None for p in self.model.parameters())
            and not any(module.training for module in self.model.modules())
            and _hooks(self.model) == self.hooks
        )


def subject(model: nn.Module, image: Tensor | None = None) -> Subject:
    """A network to try methods on: a copy of the user's, whose own is left alone.

    Args:
        model: Any module from images [B, C, H, W] to logits [B, N].
        image: [C, H, W] or [1, C, H, W], normalised as the model expects. None draws noise, the
            same each time: of 64 px where the network takes images of any size, which is enough to
            see what a method does and far cheaper, else of the network's own size.

    Raises:
        ConfigError: the image has another shape.
        UnsupportedModel: the network does not return logits for it, or not in float64.
    """
    copy = deepcopy(model).double().eval().requires_grad_(False)
    first = _noise(copy, model) if image is None else _batch_of_one(image)
    with torch.no_grad():
        try:
            logits = copy(first.clone())
        except Exception as error:  # whatever a network of the user's own raises
            raise UnsupportedModel(
                f"{type(model).__name__} does not run on an image {list(first.shape)} in float64, "
                f"which the checks need ({type(error).__name__}: {str(error).splitlines()[0]}); "
                "give an image of its size, and let it make no tensors of a fixed type."
            ) from error
        check_logits(logits)
    stream = torch.Generator().manual_seed(3)
    second = torch.randn(first.shape, generator=stream, dtype=torch.float64)
    ranked = logits[0].argsort(descending=True)
    n_classes = min(_CLASSES, len(ranked))
    # the target and its rivals from all over the ranking
    places = torch.linspace(0, len(ranked) - 1, n_classes).long()
    chosen = ranked[places]
    return Subject(
        name=type(model).__name__,
        model=copy,
        images=torch.cat([first, second]),
        classes=torch.stack([chosen, chosen.roll(1)]),
    )


def in_general_position(model: nn.Module, images: Tensor) -> None:
    """Give a network random weights of our own, in place.

    What libraries start from is no network in general position: zero heads, zero last scales of
    residual branches, layer scales of 1e-6.

    Args:
        model: In eval mode.
        images: [n, C, H, W], whose statistics batch norms take, or deep networks would overflow.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(std=0.1)
        elif parameter.ndim > 1 and name.endswith("weight"):
            parameter.data.normal_(std=(2 / parameter[0].numel()) ** 0.5)
        else:  # scales of norms and layers, tokens and positions
            parameter.data.uniform_(0.5, 1.5)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train().momentum = None  # running statistics become those of the one batch
    if norms:
        with torch.no_grad():
            model(images)
    for norm in norms:
        norm.eval()


def image_sides(model: nn.Module) -> Sequence[int]:
    """Sides of images to try, in pixels, the cheapest first."""
    try:
        spec = input_spec(model)
    except ConfigError:  # a network of the user's own
        return (_SMALL, _USUAL)
    return (spec.size,) if spec.fixed_size else (_SMALL, spec.size)


def _noise(copy: nn.Module, model: nn.Module) -> Tensor:
    """Gaussian noise [1, 3, H, W] of the first size that the network takes."""
    sides = image_sides(model)
    for side in sides:
        stream = torch.Generator().manual_seed(2)
        noise = torch.randn(1, 3, side, side, generator=stream, dtype=torch.float64)
        with torch.no_grad():
            try:
                copy(noise.clone())
            except Exception:  # too small for it, or of another size than its own
                continue
        return noise
    return noise


def _batch_of_one(image: Tensor) -> Tensor:
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1:
        raise ConfigError(
            f"the image must be a tensor [C, H, W] or [1, C, H, W], got {list(image.shape)}; "
            "give one image, normalised as the model expects."
        )
    return batch.double()


def _hooks(model: nn.Module) -> int:
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in _HOOKS)
