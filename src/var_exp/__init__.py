"""Class-competition attribution (VAR): explain why this class and not that one, measured honestly.

Everything here is imported when it is first used, so that the command line answers at once.

Examples:
    >>> import torch, var_exp
    >>> model = var_exp.load_model("critters_cnn")
    >>> maps = var_exp.get_method("gbp").attribute(
    ...     model, torch.zeros(1, 3, 64, 64), torch.tensor([[3, 5]])
    ... )
    >>> var_exp.VAR()(maps).shape
    torch.Size([1, 2, 3, 64, 64])
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m var_exp` has put the working folder first, where a file of any package's name would
    # run in its place; `registry.locate` looks there when a configuration names something.
    del sys.path[0]

if TYPE_CHECKING:
    from var_exp import metrics
    from var_exp.explaining import explain
    from var_exp.explanation import Explanation
    from var_exp.methods import get_method, list_methods
    from var_exp.methods.preparation import prepare
    from var_exp.models import list_models, load_model
    from var_exp.refine.shared import shared_evidence
    from var_exp.refine.var import VAR
    from var_exp.types import InputSpec

__all__ = [
    "VAR",
    "Explanation",
    "InputSpec",
    "explain",
    "get_method",
    "list_methods",
    "list_models",
    "load_model",
    "metrics",
    "prepare",
    "shared_evidence",
]

_HOMES = {
    "VAR": "var_exp.refine.var",
    "Explanation": "var_exp.explanation",
    "InputSpec": "var_exp.types",
    "explain": "var_exp.explaining",
    "get_method": "var_exp.methods",
    "list_methods": "var_exp.methods",
    "list_models": "var_exp.models",
    "load_model": "var_exp.models",
    "prepare": "var_exp.methods.preparation",
    "shared_evidence": "var_exp.refine.shared",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("var_exp.metrics")
    if name not in _HOMES:
        raise AttributeError(f"module 'var_exp' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
