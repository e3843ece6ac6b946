"""Logits read off after every layer of a transformer, not after the last alone.

The tokens that a layer returns are given to what follows the last layer: the network's own final
normalisation, read-out and head. One forward pass does it: the last layer returns the tokens of all
layers, as a batch so many times larger, and from layer to layer tokens are handed on without their
gradient, so that the logits read after a layer depend on the attention of this layer alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from var_exp.engine.attention import attention_matrices
from var_exp.engine.chunks import is_out_of_memory
from var_exp.engine.gradients import changed_output
from var_exp.engine.scores import check_logits
from var_exp.models.frozen import frozen
from var_exp.models.spatial import first_of
from var_exp.types import Images, Logits, UnsupportedModel

_ELSE = "use method=transformer_attribution or method=gradcam"


def find_layers(model: nn.Module, image: Images, count: int) -> list[nn.Module]:
    """Modules that hold one attention each and return all tokens, in their order.

    Costs two forward passes of two pictures.

    Args:
        model: One that `engine.attention.find_tokens` accepts.
        image: [1, C, H, W].
        count: Of its tokens.

    Raises:
        UnsupportedModel: not every attention has such a module, or they are not alike, or what
            follows the last of them reads other things than its tokens.
    """
    name = type(model).__name__
    images = image.detach().expand(2, -1, -1, -1)  # what is added to one image would not be noticed
    layers, own = _modules_of_one_attention(model, images, count)
    if None in layers or len({type(layer) for layer in layers}) != 1:
        raise UnsupportedModel(
            f"{name} has no module for each of its layers that returns the tokens, so that its "
            f"logits cannot be read there; {_ELSE}."
        )
    found = [layer for layer in layers if layer is not None]
    _check_read_out(model, images, found, own)
    return found


@contextmanager
def read_after(layers: Sequence[nn.Module], last: int) -> Iterator[None]:
    """Let the forward pass inside return logits [last · B, N], those after the first of them first.

    Args:
        layers: As `find_layers` found them.
        last: How many of the last layers are read.
    """
    kept: list[Tensor] = []

    def hand_on(tokens: Tensor) -> Tensor:
        kept.append(tokens)
        if len(kept) < len(layers):
            return tokens.detach().requires_grad_().clone()  # the next layer may work in place
        return torch.cat(kept[-last:])

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(changed_output(layer, 0, hand_on))
        yield
    kept.clear()


def _modules_of_one_attention(
    model: nn.Module, images: Images, count: int
) -> tuple[list[nn.Module | None], Logits]:
    """For each attention matrix, the outermost module around it that holds no other; the logits."""
    found: dict[int, nn.Module] = {}
    begun: dict[nn.Module, int] = {}

    with ExitStack() as stack, torch.no_grad(), frozen(model):
        matrices = stack.enter_context(attention_matrices(lambda matrix: matrix.new_zeros(())))

        def begin(module: nn.Module, _inputs: object) -> None:
            begun[module] = len(matrices)

        def end(module: nn.Module, _inputs: object, output: object) -> None:
            first = first_of(output)
            is_tokens = isinstance(first, Tensor) and first.ndim == 3 and first.shape[1] == count
            if is_tokens and len(matrices) == begun[module] + 1:
                found[begun[module]] = module  # in place of those inside it

        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)
        logits = check_logits(model(images.clone()))
        return [found.get(index) for index in range(len(matrices))], logits


def _check_read_out(
    model: nn.Module, images: Images, layers: Sequence[nn.Module], own: Logits
) -> None:
    """Refuse a model whose last logits are not its own when more than the last layer is read."""
    with torch.no_grad(), frozen(model):
        try:
            with read_after(layers, len(layers)):
                logits = check_logits(model(images.clone()))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            logits = own[:0]
    same = len(logits) == len(layers) * len(own) and torch.allclose(
        logits[-len(own) :], own, rtol=1e-3, atol=1e-3 * float(own.abs().max())
    )
    if not same:
        raise UnsupportedModel(
            f"{type(model).__name__} reads its logits from more than the tokens of its last layer; "
            f"{_ELSE}."
        )
