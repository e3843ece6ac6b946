"""Let a model alone compute in reduced precision, and nothing around it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn


def run_forward_in(model: nn.Module, context: Callable[[], AbstractContextManager[Any]]) -> None:
    """Enter a context, such as autocast, for each forward pass of a model; logits come out float32.

    Backward passes compute in the types of the forward pass. By hooks, so that a copy of the model
    does the same and the modules keep their names.

    Args:
        model: From images to logits; altered for good.
        context: Makes the context of one forward pass.
    """
    entered: list[AbstractContextManager[Any]] = []

    def enter(_module: nn.Module, _inputs: object) -> None:
        entered.append(context())
        entered[-1].__enter__()

    def leave(_module: nn.Module, _inputs: object, output: Any) -> Any:
        entered.pop().__exit__(None, None, None)
        half = isinstance(output, torch.Tensor) and output.dtype in (torch.bfloat16, torch.float16)
        return output.float() if half else output

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)  # also when the pass fails
