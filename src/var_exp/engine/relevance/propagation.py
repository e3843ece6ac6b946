"""Layer-wise relevance propagation through any network, all classes from one forward pass.

The forward pass is watched call by call (`engine.calls`); calls whose plain gradient is not their
rule get another backward. With R = value · g (see `engine.relevance.rules`):

    linear layer, convolution     the composite's rule; batch normalisation behind it is merged
    activation f                  identity: g · f(x) / x, so that R passes unchanged
    other batch normalisation     likewise; behind a sum or average it is part of that
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

from var_exp.engine.gradients import ClassGradients, class_gradients
from var_exp.engine.relevance.calls import Composite, RelevanceCalls
from var_exp.engine.relevance.graph import check_graph
from var_exp.engine.relevance.rules import stabilised
from var_exp.engine.scores import class_scores
from var_exp.types import Classes, Images, Logits, Maps, UnsupportedModel

Start: TypeAlias = Callable[[Logits, Classes], Float[Tensor, "B K N"]]
"""From logits and classes to the relevance of every logit, for each class that is explained."""


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
    return class_relevance(model, images, classes, composite, start).gradients


def class_relevance(
    model: nn.Module,
    images: Images,
    classes: Classes,
    composite: Composite,
    start: Start | None = None,
) -> ClassGradients:
    """As `relevance`, with the logits."""
    calls = RelevanceCalls(composite)

    def scores(logits: Logits, classes: Classes) -> Float[Tensor, "B K"]:
        if composite.attention and not calls.attended:
            raise UnsupportedModel(f"{type(model).__name__} has no attention; use method=lrp.")
        check_graph(logits, type(model).__name__)
        found = class_scores(logits, classes)
        if start is None:
            return found
        # R_n = y_n g_n asks for the gradient g_n = R_n / y_n
        known = logits.detach()
        gradients = start(known, classes) / stabilised(known, 1e-12)[:, None]
        return (gradients * logits[:, None]).sum(2)

    return class_gradients(model, images, classes, rule=calls, score=scores)
