"""Which classes compete for an image, what they are called, and which of the model's they are."""

from var_exp.classes.mapping import ClassMapping
from var_exp.classes.named import Named
from var_exp.classes.names import ClassNames
from var_exp.classes.rules import (
    ClassRule,
    Given,
    PublishedTopK,
    Random,
    Siblings,
    TopK,
    TopKAndLeast,
    random_others,
)

__all__ = [
    "ClassMapping",
    "ClassNames",
    "ClassRule",
    "Given",
    "Named",
    "PublishedTopK",
    "Random",
    "Siblings",
    "TopK",
    "TopKAndLeast",
    "random_others",
]
