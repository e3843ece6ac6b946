"""A model whose layers have lost, one after another, what they learnt.

Every parameter is drawn anew, whatever the layer: weights, biases, norms, tokens, position
embeddings, layer scales, and the running statistics of norms. Each tensor is drawn from a normal
distribution of its own mean and standard deviation, so that what was learnt is gone and the size of
the activations stays roughly what it was; `reset_parameters` would skip tokens and layer scales,
and turn a batch norm into the identity. A tensor of one repeated value, such as a bias that was
never trained, is spread around it. A variance stays positive: its logarithm is drawn.

Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292.
"""

from fractions import Fraction

import torch
from torch import Generator, Tensor, nn

from var_exp.models.private import copied
from var_exp.seeds import sample_generator
from var_exp.types import UnsupportedModel

_SMALLEST_VARIANCE = 1e-5  # what batch norm adds to a variance
_SPREAD = 0.1  # of a tensor of one value: a tenth of it, or of 1 where it is 0


class RandomizedModels:
    """Copies of a model in which some layers are random.

    A layer is a module with parameters of its own; layers are in the order in which the model
    registers them, from the picture to the logits. The random values of a tensor depend on the seed
    and its name, so they are the same in every copy, batch and process. The copies share all
    tensors with the model and with each other: together they hold one further set of weights.

    Args:
        model: In eval mode; it is not altered.
        seed: Of the random values.

    Raises:
        UnsupportedModel: the model has no parameters.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self._model = model
        self._layers: list[dict[int, Tensor]] = []  # the new tensors by the id of the old
        seen: set[int] = set()
        for prefix, module in model.named_modules():
            drawn = {
                id(tensor): redraw(tensor, sample_generator(seed, f"{prefix}.{name}"), name)
                for name, tensor in _learnt(module).items()
                if id(tensor) not in seen  # a tensor that two layers share belongs to the first
            }
            seen |= drawn.keys()
            if drawn:
                self._layers.append(drawn)
        if not self._layers:
            raise UnsupportedModel(
                "the model has no parameters to randomise; choose other metrics."
            )
        self._copies: dict[tuple[int, int], nn.Module] = {}

    def __len__(self) -> int:
        """Number of layers."""
        return len(self._layers)

    def between(self, low: Fraction, high: Fraction) -> nn.Module:
        """The model with the layers from share `low` to share `high` of its depth random.

        Args:
            low: 0 is the picture.
            high: 1 is the logits; above `low`.

        Raises:
            UnsupportedModel: so few layers that none lies there.
        """
        first, last = round(low * len(self)), round(high * len(self))
        if first >= last:
            raise UnsupportedModel(
                f"the model has {len(self)} layers, too few for this many stages; lower stages."
            )
        if (first, last) not in self._copies:
            # deepcopy takes what the memo holds for a tensor instead of copying it
            memo: dict[int, object] = {
                id(tensor): tensor for tensor in (*self._model.parameters(), *self._model.buffers())
            }
            for layer in self._layers[first:last]:
                memo |= layer
            self._copies[first, last] = copied(self._model, memo)
        return self._copies[first, last]


def redraw(tensor: Tensor, generator: Generator, name: str = "") -> Tensor:
    """Draw a tensor anew, with its own mean and standard deviation.

    Args:
        tensor: Floating point; a parameter gives a parameter.
        generator: On the CPU, so that the values do not depend on the device.
        name: Of the tensor in its module; a `running_var` stays positive.

    Returns:
        The same shape, dtype, device and kind; every value is new.
    """
    values = tensor.detach().double().cpu()
    if name == "running_var":
        values = values.clamp_min(_SMALLEST_VARIANCE).log()
    mean = values.mean()
    spread = values.std(correction=0)
    if spread <= 1e-6 * mean.abs():  # one value, apart from rounding
        spread = _SPREAD * (mean.abs() if mean else torch.ones_like(mean))
    drawn = mean + spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)
    if name == "running_var":
        drawn = drawn.exp()
    drawn = drawn.to(tensor)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(drawn, requires_grad=tensor.requires_grad)
    return drawn


def _learnt(module: nn.Module) -> dict[str, Tensor]:
    """What training changes in a module itself: its parameters, and running statistics."""
    statistics = {
        name: tensor
        for name, tensor in module.named_buffers(recurse=False)
        if name in ("running_mean", "running_var")
    }
    return dict(module.named_parameters(recurse=False)) | statistics
