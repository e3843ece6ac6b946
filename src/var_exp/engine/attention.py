"""The attention matrices of a forward pass, and which tokens an attention map is read from.

Attention maps follow a chain: a layer mixes the tokens by its matrix, the next layer mixes what
came out, and the logits read some tokens at the end. `find_tokens` looks whether a model is such a
chain. Nothing is decided by class names: in one watched pass every attention matrix is replaced by
the identity, so that tokens can meet only outside of attention, and the graph of that pass tells

    matrices    softmax over the last axis, [B, heads, N, N] with the same N in every layer, which
                weigh the values as they are (no differences of two, no mixing of heads)
    chain       the scores that a token gives itself depend on the matrix of the layer before, and
                there on the row of this token alone
    read-out    rows of the last matrix that the logits depend on (NaN marks them, also through a
                head whose weights are still zero): prefix tokens, such as the class token, or all
                patch tokens, averaged

The token grid and the number of prefix tokens come from the same pass (`models.targets`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.calls import Call, Calls
from var_exp.models.kept import kept
from var_exp.models.spatial import Frame, to_pixels
from var_exp.models.targets import Target, find_token_grid
from var_exp.models.watched_outputs import PICTURES, Trace
from var_exp.models.watched_pass import trace
from var_exp.types import Images, Maps, UnsupportedModel

_PRODUCTS = frozenset({"matmul", "bmm", "einsum"})
_PASS = frozenset(
    {
        *("dropout", "to", "type_as", "float", "contiguous", "clone"),
        *("view", "reshape", "flatten", "transpose"),
    }
)
_AVERAGES = ("mean", "avg_pool")
_OTHER_POOLING = ("max", "conv")
_ELSE = "use method=attnlrp or method=gradcam"


@dataclass(frozen=True)
class Tokens:
    """Where a vision transformer's tokens are in the image, and which of them the logits read.

    Attributes:
        count: N, all tokens.
        grid: (h, w) of the patch tokens, which come last.
        read: Positions that the logits read; their mean is the read-out.
        frame: What of the image the grid covers, as of `models.targets.Target`.
    """

    count: int
    grid: tuple[int, int]
    read: tuple[int, ...]
    frame: Frame | None = None

    def read_out(self, matrix: Float[Tensor, "B N N"]) -> Float[Tensor, "B N"]:
        """Weights of the tokens in the read-out, in the type and on the device of a matrix."""
        weights = matrix.new_zeros(len(matrix), self.count)
        weights[:, list(self.read)] = 1 / len(self.read)
        return weights

    def to_maps(self, relevance: Float[Tensor, "B K N"], images: Images) -> Maps:
        """Drop the prefix tokens and bring the rest to image size, bilinearly."""
        h, w = self.grid
        coarse = relevance[..., self.count - h * w :].unflatten(2, self.grid)
        return to_pixels(coarse, images, self.frame)


def mean_of_heads(matrix: Float[Tensor, "B heads N N"]) -> Float[Tensor, "B N N"]:
    """Average the heads, at least in single precision."""
    return matrix.mean(1, dtype=torch.promote_types(matrix.dtype, torch.float32))


@contextmanager
def attention_matrices(keep: Callable[[Tensor], Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Collect the attention matrices of the forward passes inside this context.

    Fused attention is written out. For a model that `find_tokens` accepts, each is
    [B, heads, N, N] with rows that sum to 1, in the order of the layers.

    Args:
        keep: What to keep of a matrix; None keeps it in the graph as it is.
    """
    mode = _Collect(keep)
    with mode:
        yield mode.kept


def find_tokens(model: nn.Module, image: Images) -> Tokens:
    """Find the tokens that an attention map is made of.

    Costs a forward pass of six pictures and at most two backward passes, where few tokens leave a
    doubt a forward pass of up to 17 more, and nothing until the model, its weights or the image's
    shape are others.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.

    Raises:
        UnsupportedModel: the model is no chain of attention over the same tokens, or reads them in
            another way than from prefix tokens or as an average of all patch tokens.
    """
    return kept(
        model,
        ("attention maps", image.shape, image.dtype, image.device),
        lambda: _find_tokens(model, image),
    )


def _find_tokens(model: nn.Module, image: Images) -> Tokens:
    name = type(model).__name__
    probe = _Probe(name)
    watched = trace(model, image, within=probe)
    with torch.inference_mode(False), torch.enable_grad():
        probe.close()
        _check_chain(name, probe)
        gradient = _gradient(watched.logits, torch.nan, probe.matrices[-1])
    if gradient is None:
        raise UnsupportedModel(f"the logits of {name} do not depend on its attention; {_ELSE}.")
    read = gradient.isnan().any(3).any(1).any(0).nonzero().flatten().tolist()
    count = gradient.shape[-1]
    patches = _patches(model, image, watched, count)
    _check_read_out(name, probe, read, prefix=patches.prefix, count=count)
    return Tokens(count, patches.grid, tuple(read), patches.frame)


class _Collect(Calls):
    """Keeps every attention matrix."""

    opens_attention = True

    def __init__(self, keep: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self._keep = keep

    def answer(self, call: Call) -> Any:
        result = call.run()
        if _is_attention(call):
            self.kept.append(result if self._keep is None else self._keep(result))
        return result


class _Probe(Calls):
    """Replaces every attention matrix by the identity and refuses what breaks the chain.

    Attributes:
        scores: Per layer [B, heads, N, N], what the softmax was given.
        matrices: Per layer the identity in its place, a leaf of the graph.
        after: Names of the calls since the last matrix.
    """

    opens_attention = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.scores: list[Tensor] = []
        self.matrices: list[Tensor] = []
        self.after: set[str] = set()
        self._name = name
        self._carriers: list[Tensor] = []  # the last matrix, until it has weighed the values

    def answer(self, call: Call) -> Any:
        result = call.run()
        if _is_attention(call):
            return self._replace(call.input, result)
        self.after.add(call.name)
        if any(tensor is carrier for tensor in call.tensors for carrier in self._carriers):
            if call.name in _PRODUCTS:
                self._carriers.clear()
            elif call.name in _PASS:
                self._carriers.append(result)
        return result

    def close(self) -> None:
        """Refuse a model without attention, or whose last matrix did not weigh any values."""
        if not self.matrices:
            raise UnsupportedModel(
                f"{self._name} has no attention between tokens; use method=gradcam."
            )
        if self._carriers:
            raise UnsupportedModel(
                f"{self._name} alters its attention matrices before they weigh the values; {_ELSE}."
            )

    def _replace(self, scores: Tensor, found: Tensor) -> Tensor:
        if self.matrices:
            self.close()
        shape = list(scores.shape)
        count = self.scores[0].shape[-1] if self.scores else shape[-1]
        if shape[0] != PICTURES or shape[2:] != [count, count]:
            raise UnsupportedModel(
                f"{self._name} has attention of shape {shape} for {PICTURES} images, not "
                f"[{PICTURES}, heads, N, N] with the same N tokens in every layer (in windows, "
                f"stages, across inputs or in the pooling); {_ELSE}."
            )
        matrix = torch.eye(count).to(found).expand(shape).clone().requires_grad_()
        self.scores.append(scores)
        self.matrices.append(matrix)
        self.after.clear()
        self._carriers[:] = [matrix]
        return matrix


def _is_attention(call: Call) -> bool:
    """Softmax over the last of three or more axes; gates of CNNs have theirs over channels."""
    if call.name != "softmax" or call.input.ndim < 3:
        return False
    axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim")
    return axis in (-1, call.input.ndim - 1)


def _check_chain(name: str, probe: _Probe) -> None:
    """Refuse a model whose tokens meet outside attention, or whose layers are not in a row."""
    for before, scores in zip(probe.matrices[:-1], probe.scores[1:], strict=True):
        token = scores.shape[-1] // 2  # a patch token, which a convolution would mix
        gradient = _gradient(scores[..., token, token], 1.0, before)
        if gradient is None:
            raise UnsupportedModel(f"{name} has attention layers side by side; {_ELSE}.")
        met = gradient.ne(0).any(3).any(1).any(0).nonzero().flatten().tolist()
        if met not in ([], [token]):
            raise UnsupportedModel(f"{name} mixes its tokens outside attention; {_ELSE}.")


def _gradient(output: Tensor, value: float, point: Tensor) -> Tensor | None:
    """Gradient of a matrix when `value` arrives at the output; None when the two are not linked."""
    if not output.requires_grad:
        return None
    with torch.autograd.set_detect_anomaly(False):  # NaN is meant
        (gradient,) = torch.autograd.grad(
            output, point, torch.full_like(output, value), retain_graph=True, allow_unused=True
        )
    return gradient


def _patches(model: nn.Module, image: Tensor, watched: Trace, count: int) -> Target:
    """Find the grid of the patch tokens among `count` tokens, and what of the image it covers."""
    target = find_token_grid(model, image, watched, count)
    if target is not None and target.grid[0] * target.grid[1] + target.prefix == count:
        return target
    raise UnsupportedModel(
        f"the places of the {count} tokens of {type(model).__name__} in the image were not found; "
        "use a patch embedding whose output is [B, D, h, w], or a method without a grid, such as "
        "method=gbp."
    )


def _check_read_out(name: str, probe: _Probe, read: list[int], prefix: int, count: int) -> None:
    """Refuse logits that read the tokens neither from the prefix nor as their average."""
    if read and read[-1] < prefix:
        return
    averaged = any(word in call for call in probe.after for word in _AVERAGES)
    otherwise = [
        call
        for call in sorted(probe.after)
        if "softmax" not in call and any(word in call for word in _OTHER_POOLING)
    ]
    if read != list(range(prefix, count)) or not averaged or otherwise:
        raise UnsupportedModel(
            f"{name} reads its logits neither from prefix tokens nor as an average of all patch "
            f"tokens{f' ({otherwise[0]})' if otherwise else ''}; {_ELSE}."
        )
