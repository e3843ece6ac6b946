"""Class-competition attribution (VAR): explain why this class and not that one, measured honestly.

Examples:
    >>> import torch, var_exp
    >>> model = var_exp.load_model("critters_cnn")
    >>> maps = var_exp.get_method("gbp").attribute(
    ...     model, torch.zeros(1, 3, 64, 64), torch.tensor([[3, 5]])
    ... )
    >>> var_exp.VAR()(maps).shape
    torch.Size([1, 2, 3, 64, 64])
"""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m var_exp` has put the working folder first, where a file of any package's name would
    # run in its place; `registry.locate` looks there when a configuration names something.
    del sys.path[0]

from var_exp import metrics
from var_exp.methods import get_method, list_methods
from var_exp.models import list_models, load_model
from var_exp.refine.var import VAR

__all__ = ["VAR", "get_method", "list_methods", "list_models", "load_model", "metrics"]
