"""Attribution methods: one file per paper, one alias per file in conf/method."""

from typing import Any

from var_exp.conf_files import aliases
from var_exp.methods.method import Method
from var_exp.registry import from_alias

__all__ = ["Method", "get_method", "list_methods"]


def get_method(alias: str, /, **options: Any) -> Method:
    """Build an attribution method from its alias; keyword options replace those of its YAML file.

    Raises:
        ConfigError: no such method, no such option, or a value that the option cannot take.

    Examples:
        >>> get_method("ig", steps=8)
        IntegratedGradients(max_batch=32, steps=8, quadrature='gauss_legendre')
    """
    method: Method = from_alias("method", alias, **options)
    return method


def list_methods() -> list[str]:
    """Sorted aliases of all attribution methods; "saved" reads maps and makes none."""
    return [alias for alias in aliases("method") if alias != "saved"]
