"""Relevance propagation: the functions of torch replaced by ones whose gradient is their rule.

With R = value · g, a rule that gives input i the share c_i / D of R is the gradient of D times the
constant z / D, for the output z. What stands in for a function returns its value.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import hardsigmoid

from var_exp.support.checks.case import Case, Unchecked, per_class, relative_error
from var_exp.support.checks.stand_ins import StandIns, logits_through, valued

Denominator = Callable[[Callable[..., Tensor], Tensor, Tensor, Tensor | None], Tensor]
"""From an operation, its input, weight and bias to D."""

_STABILISER = 1e-6
_LAYOUT = ("Cat", "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Clone")


def lrp(case: Case) -> float:
    """Gradients through stand-ins for torch's functions, whose gradient is the layer's rule."""
    flat, scores = _flat_first(case, _epsilon, lambda logits: logits[case.classes[0]])
    return relative_error(case.maps, per_class(scores, flat))


def clrp(case: Case) -> float:
    """As `lrp`, from a class less from all others, the latter scaled to the sum of the first."""

    def start(logits: Tensor) -> Tensor:
        own = logits[case.classes[0]]
        shares = own.detach().abs()[:, None] / logits.detach() * logits
        chosen = shares.gather(1, case.classes.T)
        dual = (shares.sum(1, keepdim=True) - chosen) / (len(logits) - 1)
        return torch.cat([chosen, dual])[:, 0]

    flat, scores = _flat_first(case, _z_plus, start)
    own, dual = per_class(scores, flat).chunk(2)
    ratio = own.sum((1, 2, 3), keepdim=True) / dual.sum((1, 2, 3), keepdim=True)
    return relative_error(case.maps, (own - ratio * dual).relu())


def sglrp(case: Case) -> float:
    """As `lrp`, from the gradient of the probability with respect to the logits."""

    def start(logits: Tensor) -> Tensor:
        jacobian = torch.autograd.functional.jacobian(lambda y: y.softmax(0), logits.detach())
        return torch.sum(jacobian[case.classes[0]] / logits.detach() * logits, 1)

    flat, scores = _flat_first(case, _z_plus, start)
    return relative_error(case.maps, per_class(scores, flat))


def attnlrp(case: Case) -> float:
    """Gradients through stand-ins for torch's functions, attention and its products among them."""
    leaf = case.image.clone().requires_grad_()
    linear, convolution = map(_gamma, (case.method.gamma_linear, case.method.gamma_convolution))
    stand_ins = _stand_ins(_Layers(convolution, linear, linear))
    scores = case.explained(logits_through(stand_ins, case, leaf))[0]
    return relative_error(case.maps, case.image * per_class(scores, leaf))


def libragrad(case: Case) -> float:
    """Input times gradient through stand-ins for torch's functions, with attention a constant."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> Tensor:
        return _attention(query.detach(), key.detach(), value, *rest, **named)

    leaf = case.image.clone().requires_grad_()
    stand_ins = StandIns(
        {
            **_BETWEEN_LAYERS,
            "scaled_dot_product_attention": attention,
            "softmax": lambda x, *_, **__: x.softmax(-1).detach(),
        },
        plain=("relu", "max_pool2d", "amax", "conv2d", "linear", "batch_norm"),
        **_ACTIVATIONS,
    )
    scores = case.explained(logits_through(stand_ins, case, leaf))[0]
    return relative_error(case.maps, case.image * per_class(scores, leaf))


def _flat_first(
    case: Case, dense: Denominator, start: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Where the relevance of the image arrives, and the scores, with z_plus between."""
    leaf = case.image.clone().requires_grad_()
    layers = _Layers(_z_plus, _z_plus, dense, first=leaf)
    logits = logits_through(_stand_ins(layers), case, leaf)
    return layers.flat, start(logits[0])


def _epsilon(operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.as_tensor(operation(x, weight, bias))


def _z_plus(operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    positive = operation(x.relu(), weight.relu(), None if bias is None else bias.relu())
    return torch.as_tensor(positive + operation((-x).relu(), (-weight).relu(), None))


def _gamma(gamma: float) -> Denominator:
    def denominator(operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z = _epsilon(operation, x, weight, bias)
        positive = _z_plus(operation, x, weight, bias)  # negative parts make up the rest of z
        return z + gamma * torch.where(z > 0, positive, torch.where(z < 0, z - positive, 0))

    return denominator


class _Layers:
    """Stand-ins for convolutions, linear layers and batch normalisation.

    Args:
        convolution: Rule of convolutions.
        tokens: Rule of linear layers on more than two axes.
        dense: Rule of linear layers on vectors.
        first: The image; a layer that reads it spreads relevance evenly.

    Attributes:
        flat: In place of the image, what that layer sees: its gradient is the relevance.
    """

    def __init__(
        self,
        convolution: Denominator,
        tokens: Denominator,
        dense: Denominator,
        first: Tensor | None = None,
    ) -> None:
        self._rules = {"convolution": convolution, "tokens": tokens, "dense": dense}
        self._first = first
        self._made: dict[Any, Any] = {}  # by node of the graph: what a layer was made from
        self.flat = torch.empty(0) if first is None else torch.ones_like(first).requires_grad_()

    def conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
    ) -> Tensor:
        def operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return torch.conv2d(x, weight, bias, *rest, **named)

        return self._layer("convolution", operation, x, weight, bias)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        def operation(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            product: Tensor = torch.tensordot(x, weight, ([-1], [1]))
            return product if bias is None else product + bias

        return self._layer("dense" if x.ndim == 2 else "tokens", operation, x, weight, bias)

    def batch_norm(
        self,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0,
        eps: float = 1e-5,
    ) -> Tensor:
        scale = (1 if weight is None else weight) / (var + eps).sqrt()
        bias = torch.zeros_like(scale) if bias is None else bias
        made_by = getattr(x, "made_by", None) or self._made.get(_behind_views(x))
        if made_by is not None:
            kind, operation, before, weight, offset = made_by
            shift = bias - mean * scale + (0 if offset is None else offset * scale)
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            return self._layer(kind, operation, before, weight, shift).view(x.shape)
        per_channel = (-1, *[1] * (x.ndim - 2))
        output = (x - mean.view(per_channel)) * scale.view(per_channel) + bias.view(per_channel)
        return output if _averaged(x) else _kept(x, output)

    def _layer(
        self, kind: str, operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        z = operation(x, weight, bias).detach()
        if x is self._first:
            total = operation(self.flat, torch.ones_like(weight), None)
        else:
            total = self._rules[kind](operation, x, weight, bias)
        result: Any = valued(z, total * (z / _away(total.detach())))
        result.made_by = self._made[result.grad_fn] = (kind, operation, x, weight, bias)
        return torch.as_tensor(result)


def _behind_views(x: Tensor) -> Any:
    """The node of the graph that made what a tensor shows in another shape."""
    node: Any = x.grad_fn
    while node.name().startswith(("View", "UnsafeView", "ReshapeAlias")):
        node = node.next_functions[0][0]
    return node


def _averaged(x: Tensor) -> bool:
    """Whether a tensor comes from a sum or average, at most laid out anew."""
    node: Any = x.grad_fn
    while node.name().startswith(_LAYOUT) and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    return bool(node.name().startswith(("Add", "Sub", "AvgPool", "Mean")))


def _away(x: Tensor) -> Tensor:
    """x, moved away from zero."""
    return torch.where(x < 0, x - _STABILISER, x + _STABILISER)


def _kept(x: Tensor, output: Tensor) -> Tensor:
    """The output of an elementwise function whose relevance is that of its input."""
    return x * torch.where(x == 0, 0, output / x).detach()


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    x = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt().detach()
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, half of whose relevance goes to either of two signals."""
    product = torch.einsum("...ij,...jk->...ik", a, b)
    both = a.requires_grad and b.requires_grad
    return valued(product.detach(), product / 2) if both else product


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Tensor:
    scores = _product(query * (scale or query.shape[-1] ** -0.5), key.mT)
    scores = scores if attn_mask is None else scores + attn_mask
    return _product(scores.softmax(-1), value)


def _gated(a: Tensor, b: Any) -> Tensor:
    """Elementwise product: of a signal and a constant, as a gate is, or of two, halved."""
    product = torch.mul(a, b)
    both = isinstance(b, Tensor) and a.requires_grad and b.requires_grad
    return valued(product.detach(), product / 2) if both else product


def _einsum(terms: str, a: Tensor, b: Tensor) -> Tensor:
    product = torch.einsum(terms, a, b)
    both = a.requires_grad and b.requires_grad
    return valued(product.detach(), product / 2) if both else product


def _scaled(a: Tensor, b: Any) -> Tensor:
    """A signal over a constant."""
    if isinstance(b, Tensor) and b.requires_grad:
        raise Unchecked("the check has no stand-in for a quotient of two signals")
    return torch.div(a, b)


_BETWEEN_LAYERS: dict[str, Callable[..., Tensor]] = {
    "layer_norm": _layer_norm,
    "matmul": _product,
    "mul": _gated,
    "einsum": _einsum,
    "div": _scaled,
    "sigmoid": lambda x: x.sigmoid().detach(),  # gates are constants
    "hardsigmoid": lambda x, *_, **__: hardsigmoid(x).detach(),
}
_ACTIVATIONS: dict[str, Any] = {
    "elementwise": lambda function, x: _kept(x, function(x)),
    "functions": (
        *("gelu", "silu", "hardswish", "mish", "elu", "selu", "celu", "softplus"),
        *("relu6", "hardtanh"),
    ),
}


def _stand_ins(layers: _Layers) -> StandIns:
    """What stands in for torch's functions."""
    return StandIns(
        {
            **_BETWEEN_LAYERS,
            "conv2d": layers.conv2d,
            "linear": layers.linear,
            "batch_norm": layers.batch_norm,
            "scaled_dot_product_attention": _attention,
        },
        plain=("relu", "max_pool2d", "amax", "softmax"),
        **_ACTIVATIONS,
    )
