"""What the autograd graph says about a tensor of a forward pass, and whether relevance can flow.

Calls are seen only where they are made from Python; the graph has every differentiable operation.
"""

import re

from torch import Tensor
from torch.autograd.graph import Node

from var_exp.types import UnsupportedModel

# Names of nodes, without "Backward" and number.
_LAYOUT = frozenset(
    {
        *("View", "UnsafeView", "ReshapeAlias", "AsStrided", "Permute", "Transpose", "T", "Alias"),
        *("Expand", "Unsqueeze", "Squeeze", "Select", "Slice", "Split", "SplitWithSizes", "Unbind"),
        *("Cat", "Stack", "Roll", "Flip", "Repeat", "Clone", "ToCopy", "Index", "IndexSelect"),
        *("Gather", "ConstantPadNd", "PixelShuffle", "PixelUnshuffle", "Im2Col", "Unfold"),
        *("CopyBackwards", "CopySlices", "MaskedFill", "Where"),
    }
)
_AVERAGES = frozenset({"Mean", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D"})
_LINEAR = _AVERAGES | {
    *("Add", "Sub", "Rsub", "Neg", "Sum", "Cumsum", "Col2Im", "ReflectionPad2D"),
    *("ReplicationPad2D", "UpsampleNearest2D", "UpsampleBilinear2D", "UpsampleBicubic2D"),
}
_LINEAR_IN_EACH = frozenset(
    {"Mul", "Div", "Mm", "Bmm", "Mv", "Dot", "Addmm", "Baddbmm", "Addcmul", "Addmv"}
)
_CHOICE = frozenset(
    {"Relu", "LeakyRelu", "PreluKernel", "MaxPool2DWithIndices", "AdaptiveMaxPool2D", "Max", "Amax"}
)
_RULED = frozenset({"_PropagateBackward", "_KeepBackward", "_ShareBackward", "Softmax"})
_PASSABLE = _LAYOUT | _LINEAR | _LINEAR_IN_EACH | _CHOICE | _RULED


def check_graph(logits: Tensor, model: str, plain: frozenset[str] = frozenset()) -> None:
    """Refuse operations without a rule, and paths from the image that avoid every layer.

    Args:
        logits: Made in a pass under `RelevanceCalls`, or a part of their rules.
        model: Its name in the message.
        plain: Names of further nodes whose plain gradient is meant; "AccumulateGrad" among them
            lets paths from the image avoid the layers.

    Raises:
        UnsupportedModel: with the name of the operation.
    """
    nodes = [] if logits.grad_fn is None else [logits.grad_fn]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        name, parents = _kind(node), _parents(node)
        if name == "AccumulateGrad" and name not in plain:
            raise UnsupportedModel(
                f"{model} works on the image other than by a first layer, so that no relevance "
                "reaches it; use a gradient method such as input_x_gradient."
            )
        if name not in _PASSABLE | plain or (name in _LINEAR_IN_EACH and len(parents) > 1):
            raise UnsupportedModel(
                f"{model} computes '{name}', for which there is no relevance rule; "
                "use a gradient method such as input_x_gradient."
            )
        layer = getattr(node, "layer", None)
        if layer is None or not layer.reads_image:
            nodes += [parent for parent in parents if parent not in seen]
            seen.update(parents)


def reads_image(signal: Tensor) -> bool:
    """Whether a tensor is the image, at most laid out anew or shifted by constants."""
    nodes = [] if signal.grad_fn is None else [signal.grad_fn]
    while nodes:
        node = nodes.pop()
        if _kind(node) not in _LAYOUT | {"Add", "Sub", "AccumulateGrad"}:
            return False
        nodes += _parents(node)
    return True


def is_sum(signal: Tensor) -> bool:
    """Whether a tensor is a sum or average, maybe in another layout."""
    return _kind(_source(signal, _LAYOUT)) in _AVERAGES | {"Add", "Sub"}


def is_gate(signal: Tensor) -> bool:
    """Whether a tensor is the output of a sigmoid or softmax, laid out anew, scaled or shifted."""
    source = _source(signal, _LAYOUT | {"Mul", "Div", "Add", "Sub", "Rsub"})
    return _kind(source) == "Softmax" or getattr(source, "is_gate", False)


def _source(signal: Tensor, passed: frozenset[str]) -> Node | None:
    """First node behind a tensor that is none of those passed, as far as there is one path."""
    node = signal.grad_fn
    while node is not None and _kind(node) in passed and len(parents := _parents(node)) == 1:
        node = parents[0]
    return node


def _kind(node: Node | None) -> str:
    """Name of a node: "Mul" for MulBackward0."""
    return re.sub(r"Backward\d+$", "", type(node).__name__)


def _parents(node: Node) -> list[Node]:
    """Nodes that a node hands its gradient to."""
    return [parent for parent, _ in node.next_functions if parent is not None]
