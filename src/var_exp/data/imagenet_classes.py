"""ImageNet-1k's classes: their names, their WordNet ids, and the objects that they are.

`imagenet_members.csv` says which ImageNet classes are an object of Pascal VOC or COCO, one line for
each. A class is listed when all that its WordNet name stands for is what the annotators of the
object were told to label, and when the listed ones together look like the object usually does.
docs/data.md shows the table by object and says what was left out, and why.
"""

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import torch
from jaxtyping import Bool
from timm.data import ImageNetInfo
from torch import Tensor

from var_exp.classes import ClassNames
from var_exp.classes.names import stand_ins


@cache
def imagenet_names() -> tuple[str, ...]:
    """First name of each class, by number: "tench", "goldfish" and so on."""
    info = ImageNetInfo("imagenet-1k")
    ids = info.label_names()
    return tuple(info.index_to_description(number).split(",")[0] for number in range(len(ids)))


@cache
def wordnet_numbers() -> dict[str, int]:
    """WordNet id -> class number: "n01440764" -> 0."""
    names = ImageNetInfo("imagenet-1k").label_names()
    return {wordnet_id: number for number, wordnet_id in enumerate(names)}


@cache
def imagenet_synonyms() -> dict[str, tuple[int, ...]]:
    """What else the classes are called: every name that WordNet gives them, and their WordNet ids.

    A name may belong to several classes.
    """
    info = ImageNetInfo("imagenet-1k")
    found: dict[str, tuple[int, ...]] = {}
    for wordnet_id, number in wordnet_numbers().items():
        for name in (wordnet_id, *info.index_to_description(number).split(",")):
            found[name.strip()] = (*found.get(name.strip(), ()), number)
    return found


def names_of_classes(
    num_classes: int | None, model_names: Sequence[str] | None = None
) -> ClassNames:
    """What a model's classes are called: as its weights say; 1000 without names are ImageNet's."""
    if model_names is None:
        if num_classes == len(imagenet_names()):
            return ClassNames(imagenet_names(), imagenet_synonyms())
        return ClassNames(stand_ins(num_classes or 0))
    is_imagenet = tuple(model_names) == imagenet_names()
    return ClassNames(model_names, imagenet_synonyms() if is_imagenet else None)


def imagenet_members(names: Sequence[str], group: str) -> Bool[Tensor, "M 1000"]:
    """Which ImageNet classes are which object; none is two objects.

    Args:
        names: Names of the M objects.
        group: "voc" or "coco".
    """
    numbers = wordnet_numbers()
    members = torch.zeros(len(names), len(numbers), dtype=torch.bool)
    with (files("var_exp.data") / "imagenet_members.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row[group]:
                members[names.index(row[group]), numbers[row["wordnet_id"]]] = True
    return members
