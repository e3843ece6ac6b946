"""Models by name, in eval mode and frozen, with what they expect to see."""

from var_exp.conf_files import aliases
from var_exp.models.conv_patches import ConvPatches
from var_exp.models.declared import (
    class_names,
    classes_of,
    declare,
    head_of,
    input_spec,
    network_name,
    probabilities,
)
from var_exp.models.description import Description, describe
from var_exp.models.frozen import returning_logits
from var_exp.models.hf_models import hf_model
from var_exp.models.load import load_model, timm_model
from var_exp.models.region import RegionScores
from var_exp.models.torchvision_models import torchvision_model
from var_exp.models.zero_shot import zero_shot

__all__ = [
    "ConvPatches",
    "Description",
    "RegionScores",
    "class_names",
    "classes_of",
    "declare",
    "describe",
    "head_of",
    "hf_model",
    "input_spec",
    "list_models",
    "load_model",
    "network_name",
    "probabilities",
    "returning_logits",
    "timm_model",
    "torchvision_model",
    "zero_shot",
]


_SOURCES = {"hf", "timm", "torchvision", "zero_shot"}  # of networks that must be named


def list_models() -> list[str]:
    """Sorted aliases of `load_model`; names of timm, torchvision and Hugging Face work too."""
    return [alias for alias in aliases("model") if alias not in _SOURCES]
