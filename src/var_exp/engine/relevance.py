"""Layer-wise relevance propagation through any network, all classes from one forward pass.

The forward pass is watched call by call (`engine.calls`); calls whose plain gradient is not their
rule get another backward. With R = value · g (see `engine.relevance_rules`):

    linear layer, convolution     the composite's rule; batch normalisation behind it is merged
    activation f, other batch normalisation      identity: g · f(x) / x, so that R passes unchanged
    layer, group and RMS normalisation           the standard deviation is a constant
    softmax                       plain gradient, its deep Taylor decomposition
    matrix product of signals     the same share of the relevance to each factor
    product of signals            likewise; a gate (sigmoid, softmax) is a constant, the signal
                                  takes all (Arras et al. 2017, arXiv 1706.07206)
    sum, mean, layout, max-pooling, ReLU         plain gradient

What concerns attention, normalisation and activations is AttnLRP (Achtibat et al. 2024, arXiv
2402.05602). Afterwards the graph of the pass is searched: what is on none of these lists, however
it was called, is refused by name, since it would silently get its plain gradient.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from var_exp.engine.gradients import class_gradients
from var_exp.engine.relevance_calls import LAYOUT, Composite, RelevanceCalls, kind, parents
from var_exp.engine.relevance_rules import stabilised
from var_exp.engine.scores import class_scores
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel

Start: TypeAlias = Callable[[Logits, Classes], Float[Tensor, "B K N"]]
"""From logits and classes to the relevance of every logit, for each class that is explained."""

_LINEAR_IN_EACH = frozenset(
    {"Mul", "Div", "Mm", "Bmm", "Mv", "Dot", "Addmm", "Baddbmm", "Addcmul", "Addmv"}
)
_LINEAR = frozenset(
    {
        *("Add", "Sub", "Rsub", "Neg", "Mean", "Sum", "Cumsum", "Col2Im"),
        *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D"),
        *("ReflectionPad2D", "ReplicationPad2D"),
        *("UpsampleNearest2D", "UpsampleBilinear2D", "UpsampleBicubic2D"),
    }
)
_CHOICE = frozenset({"Relu", "LeakyRelu", "PreluKernel", "MaxPool2DWithIndices", "Max", "Amax"})
_RULED = frozenset({"_PropagateBackward", "_KeepBackward", "_ShareBackward", "Softmax"})
_PLAIN = LAYOUT | _LINEAR | _LINEAR_IN_EACH | _CHOICE | _RULED | {"AdaptiveMaxPool2D"}


def relevance(
    model: nn.Module,
    images: Images,
    classes: Classes,
    composite: Composite,
    start: Start | None = None,
) -> Maps:
    """Propagate relevance from the logits to the image, for K classes from one forward pass.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.
        composite: The rules of the layers.
        start: Relevance of the logits; by default y_c at class c and zero elsewhere.

    Returns:
        [B, K, C, H, W], in the floating-point type of the images.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model computes what has no rule, or has attention where the composite
            is for models without, or the reverse.
    """
    calls = RelevanceCalls(composite)

    def scores(logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        if composite.attention and not calls.attended:
            raise UnsupportedModel(f"{type(model).__name__} has no attention; use method=lrp.")
        _check_graph(logits, type(model).__name__)
        found = class_scores(logits, classes)
        if start is None:
            return found
        # R_n = y_n g_n asks for the gradient g_n = R_n / y_n
        known = logits.detach()
        return ((start(known, classes) / stabilised(known, 1e-12)[:, None]) * logits[:, None]).sum(
            2
        )

    return class_gradients(model, images, classes, rule=calls, score=scores).gradients


def _check_graph(logits: Tensor, model: str) -> None:
    """Refuse what has no rule, and paths from the image that avoid every layer."""
    nodes = [] if logits.grad_fn is None else [logits.grad_fn]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        name, found = kind(node), parents(node)
        if name == "AccumulateGrad":
            raise UnsupportedModel(
                f"{model} works on the image other than by a first layer, so that no relevance "
                "reaches it; use a gradient method such as input_x_gradient."
            )
        if name not in _PLAIN or (name in _LINEAR_IN_EACH and len(found) > 1):
            raise UnsupportedModel(
                f"{model} computes '{name}', for which there is no relevance rule; "
                "use a gradient method such as input_x_gradient."
            )
        layer = getattr(node, "layer", None)
        if layer is not None and layer.reads_image:
            continue
        nodes += [parent for parent in found if parent not in seen]
        seen.update(found)
