"""Models by name, in eval mode and frozen, with what they expect to see."""

from var_exp.models.conv_patches import ConvPatches
from var_exp.models.load import class_names, input_spec, load_model, network_name, timm_model
from var_exp.registry import aliases

__all__ = [
    "ConvPatches",
    "class_names",
    "input_spec",
    "list_models",
    "load_model",
    "network_name",
    "timm_model",
]


def list_models() -> list[str]:
    """Sorted aliases of `load_model`; every other timm name works as well."""
    return aliases("model")
