"""Backward rules with which a gradient accounts for the whole output, in transformers too.

Where a network is linear in each piece, as with ReLU, input times gradient and bias times gradient
add up to the logit. These calls break that, and get another backward:

    softmax                 a constant: of attention the gradient flows through the values alone
    normalisation           the deviation is a constant
    activation x · gate(x)  the gate is a constant: g · f(x) / x
    product of signals      half of the gradient to each; a gate (sigmoid) is a constant

(Mehri et al. 2025, LibraGrad, arXiv 2411.16760.) All but the first are those of AttnLRP too, and
written there (`engine.relevance.calls`); layers keep their plain gradient, which it alters.
"""

from collections import Counter
from typing import Any, ClassVar

from torch import Tensor, nn

from var_exp.engine.calls import DIVISION_CALLS, PRODUCT_CALLS, Call, Calls
from var_exp.engine.gradients import ClassGradients, class_gradients
from var_exp.engine.relevance.calls import MATRIX_PRODUCTS, RULES_BETWEEN_LAYERS, share_product
from var_exp.engine.relevance.graph import check_graph
from var_exp.engine.scores import class_scores
from var_exp.engine.signals import signals_of
from var_exp.types import Classes, Images, Logits, UnsupportedModel

_PLAIN = frozenset(
    {"Convolution", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "AccumulateGrad"}
)


def balanced_gradients(model: nn.Module, images: Images, classes: Classes) -> ClassGradients:
    """Gradients of K logits per image with the rules above, from one forward pass.

    Args:
        model: Any module from images to logits; it runs in eval mode.
        images: [B, C, H, W], not altered.
        classes: [B, K] int64.

    Returns:
        The logits, and gradients [B, K, C, H, W] in the floating-point type of the images.

    Raises:
        ValueError: a class that the model does not have.
        UnsupportedModel: the model computes what has no rule, or nothing whose gradient is altered.
    """
    calls, name = _BalancedCalls(), type(model).__name__

    def scores(logits: Logits, classes: Classes) -> Tensor:
        if not calls.altered:
            raise UnsupportedModel(
                f"{name} has no attention, normalisation or activation to balance, so the result "
                "would be the plain gradient; use method=input_x_gradient."
            )
        check_graph(logits, name, _PLAIN)
        return class_scores(logits, classes)

    return class_gradients(model, images, classes, rule=calls, score=scores)


class _BalancedCalls(Calls):
    """Gives the calls of a forward pass their balanced backward, and counts them by name."""

    opens_attention: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.altered: Counter[str] = Counter()

    def answer(self, call: Call) -> Any:
        """Result of a call, with the backward of its rule if it has one."""
        signals = signals_of(call)
        if not signals or _is_scaled(call, signals):
            return call.run()
        if call.name == "softmax":
            self.altered[call.name] += 1
            return call.run().detach()
        if call.name in MATRIX_PRODUCTS:
            return share_product(call, signals)
        if call.name in RULES_BETWEEN_LAYERS:
            self.altered[call.name] += 1
            return RULES_BETWEEN_LAYERS[call.name](call, signals)
        return call.run()


def _is_scaled(call: Call, signals: list[Tensor]) -> bool:
    """Whether a call multiplies one signal by a constant, which is linear."""
    if call.name in DIVISION_CALLS:
        return signals[-1] is not call.argument(1, "other")
    return call.name in PRODUCT_CALLS and len(signals) == 1
