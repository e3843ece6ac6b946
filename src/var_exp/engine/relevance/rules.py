"""Rules of layer-wise relevance propagation for linear layers and convolutions.

A layer z = W x + b that holds the relevance R_j at its outputs gives its inputs

    R_i = Σ_j c_ij / D_j · R_j

where c_ij is what input i contributes to output j and D_j = Σ_i c_ij, kept away from zero. A rule
says what counts as a contribution; u⁺ and u⁻ are the positive and negative part of u:

    epsilon   x_i w_ij, and b_j in D            Bach et al. 2015, PLoS ONE 10(7)
    z_plus    its positive part, and b_j⁺       Bach et al. 2015, α = 1, β = 0
    gamma     x_i w_ij + γ · the part of it that has the sign of z_j, and b_j likewise
                                                Montavon et al. 2019; for inputs of both signs as
                                                zennit, Anders et al. 2021, arXiv 2106.13200
    flat      1                                 Lapuschkin et al. 2019, arXiv 1902.10178
    z_box     x_i w_ij - l_i w_ij⁺ - h_i w_ij⁻  Montavon et al. 2017, arXiv 1512.02479

The backward pass carries g with R = value · g instead of R, so that sums, pooling and layout need
no rule: their plain gradient is what they give. Here R_j = z_j g_j, and x_i divides out again.
Only a layer that reads the image hands down R itself, as the last two rules do not vanish with x.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from var_exp.types import UnsupportedModel

STABILISER = 1e-6

Operation: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From input, weight and bias to output; linear in each."""


@dataclass(frozen=True)
class RelevanceRule:
    """How a layer hands relevance down.

    Attributes:
        contributions: From a layer and its input x to the tensors that receive relevance and the D
            that they make up; R_i is each tensor times the gradient that reaches it, summed. D may
            have size 1 where it is the same for all outputs.
        stabiliser: Added to the absolute value of D.
    """

    contributions: Callable[["Layer", Tensor], tuple[list[Tensor], Tensor]]
    stabiliser: float = STABILISER


@dataclass(frozen=True, eq=False)
class Layer:
    """A call of a linear layer or a convolution.

    Attributes:
        input: As the model gave it, part of the autograd graph.
        weight: [out, in, …].
        bias: [out] or None.
        operation: The call, of any input, weight and bias.
        rule: How it hands relevance down.
        reads_image: Whether the input is the image, maybe in another layout.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    operation: Operation
    rule: RelevanceRule
    reads_image: bool

    @property
    def grouped(self) -> bool:
        """Whether it is a convolution whose outputs each read a part of the channels."""
        return (
            self.weight.ndim > 2 and self.weight.shape[1] != self.input.shape[1 - self.weight.ndim]
        )

    def scaled(self, scale: Tensor, shift: Tensor) -> "Layer":
        """The layer z · scale + shift, with one number per output."""
        weight = self.weight * scale.view(-1, *[1] * (self.weight.ndim - 1))
        bias = shift if self.bias is None else self.bias * scale + shift
        return replace(self, weight=weight, bias=bias)


def epsilon(stabiliser: float = STABILISER) -> RelevanceRule:
    """Every contribution; a large stabiliser absorbs the relevance of weak outputs."""

    def contributions(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
        return [x], layer.operation(x, layer.weight, layer.bias)

    return RelevanceRule(contributions, stabiliser)


def z_plus() -> RelevanceRule:
    """Positive contributions alone."""

    def contributions(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
        bias = None if layer.bias is None else layer.bias.clamp(min=0)
        weight = layer.weight.clamp(min=0)
        if bool(x.min() >= 0):  # as behind a ReLU: half the work
            return [x], layer.operation(x, weight, bias)
        positive = layer.operation(x.clamp(min=0), weight, bias)
        weight = layer.weight.clamp(max=0)
        return [x], positive + layer.operation(x.clamp(max=0), weight, None)

    return RelevanceRule(contributions)


def gamma(weight: float) -> RelevanceRule:
    """Contributions that agree with the sign of the output count 1 + weight times."""

    def contributions(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
        z = layer.operation(x, layer.weight, layer.bias)
        bias = None if layer.bias is None else layer.bias.abs()
        magnitude = layer.operation(x.abs(), layer.weight.abs(), bias)
        # those that agree make up (z + magnitude) / 2 where z > 0, (z - magnitude) / 2 where z < 0
        return [x], z + weight / 2 * (z + z.detach().sign() * magnitude)

    return RelevanceRule(contributions if weight else epsilon().contributions)


def flat() -> RelevanceRule:
    """The same share for every input."""

    def contributions(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
        ones = torch.ones_like(x, requires_grad=True)
        weight = layer.weight if layer.grouped else layer.weight[:1]  # all outputs are alike
        return [ones], layer.operation(ones, torch.ones_like(weight), None)

    return RelevanceRule(contributions)


def z_box(lowest: Tensor, highest: Tensor) -> RelevanceRule:
    """Contributions beyond those of the least favourable pixel.

    Args:
        lowest: [C], the lowest value that a pixel can take in each channel.
        highest: [C], the highest.
    """

    def contributions(layer: Layer, x: Tensor) -> tuple[list[Tensor], Tensor]:
        if x.ndim != 4 or x.shape[1] != len(lowest):
            raise UnsupportedModel(
                "the z-box rule needs a first layer that is a convolution of the image; "
                "use composite=epsilon_plus_flat."
            )
        low, high = (
            bound.to(x).view(-1, 1, 1).expand_as(x).contiguous().requires_grad_()
            for bound in (lowest, highest)
        )
        beyond = layer.operation(x, layer.weight, None)
        beyond = beyond - layer.operation(low, layer.weight.clamp(min=0), None)
        return [x, low, high], beyond - layer.operation(high, layer.weight.clamp(max=0), None)

    return RelevanceRule(contributions)


def propagate(layer: Layer, run: Callable[[], Tensor]) -> Tensor:
    """What `run` returns, as the output of a layer that hands down relevance by its rule."""
    output: Tensor = _Propagate.apply(layer.input, layer, run)
    return output


def made_by(signal: Tensor) -> Layer | None:
    """The layer whose output a tensor is, unaltered."""
    return getattr(signal.grad_fn, "layer", None)


class _Propagate(torch.autograd.Function):
    """A layer whose backward follows its rule.

    What the rule needs is made in the first backward pass and serves all classes; so a convolution
    that turns out to be followed by batch normalisation, and is replaced, has cost nothing more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, run: Callable[[], Tensor]) -> Tensor:
        output = run()
        ctx.layer = layer
        ctx.backward_pass = _BackwardPass(layer, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.backward_pass(gradients[0]), None, None


class _BackwardPass:
    """From the g of a layer's outputs to that of its inputs, or to the relevance of the image."""

    def __init__(self, layer: Layer, output: Tensor) -> None:
        self._layer = layer
        self._output: Tensor | None = output.clone()  # the model may overwrite it
        self._version = layer.input._version

    def __call__(self, g: Tensor) -> Tensor:
        if self._output is not None:
            self._prepare(self._output)
            self._output = None
        flow = (g * self._share).sum_to_size(self._sum.shape)
        found = torch.autograd.grad(self._sum, self._receivers, flow, retain_graph=True)
        if not self._layer.reads_image:
            return found[0]
        relevance = [x.detach() * s for x, s in zip(self._receivers, found, strict=True)]
        return torch.stack(relevance).sum(0)

    def _prepare(self, output: Tensor) -> None:
        layer = self._layer
        if layer.input._version != self._version:
            raise UnsupportedModel(
                "the model overwrites the input of a layer; "
                "use a gradient method such as input_x_gradient."
            )
        x = layer.input.detach().requires_grad_()
        with torch.enable_grad():
            self._receivers, self._sum = layer.rule.contributions(layer, x)
        self._share = output / stabilised(self._sum.detach(), layer.rule.stabiliser)


def stabilised(x: Tensor, stabiliser: float) -> Tensor:
    """x, moved away from zero."""
    return x + x.new_full((), stabiliser).copysign(x)
