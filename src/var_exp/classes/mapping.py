"""Classes of the data and of the model, where the two differ."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from var_exp.types import Logits


class ClassMapping:
    """Which class of the model answers for a class of the data, where the two differ.

    "Dog" is no class of an ImageNet model, but each of its 118 breeds is a dog. On each picture the
    breed with the highest logit answers for "dog", and no other breed competes with it. So classes
    compete by what they mean: by the M classes of the data that the model knows, each with the
    highest logit of its members, and by every class of the model that is member of none.

    Args:
        members: [M, N] bool, the model's classes that answer for each class of the data, none for
            two; a row may be empty when that class is never asked about. None: class i of the data
            is class i of the model.

    Raises:
        ValueError: a class of the model that answers for two classes of the data.
    """

    def __init__(self, members: Bool[Tensor, "M N"] | None = None) -> None:
        self._meaning: Tensor | None = None
        if members is None:
            return
        if (members.sum(0) > 1).any():
            raise ValueError("a class of the model can answer for one class of the data only.")
        known = members.any(1)
        self._of_data = torch.where(known, known.cumsum(0) - 1, -1)  # [M], its number by meaning
        alone = ~members.any(0)
        by_itself = int(known.sum()) + alone.cumsum(0) - 1
        self._meaning = torch.where(alone, by_itself, self._of_data[members.int().argmax(0)])

    def __call__(self, logits: Logits) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Logits by meaning, and the class of the model that has each; equal logits: the first."""
        numbers = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
        if self._meaning is None:
            return logits, numbers
        meaning = self._meaning.to(logits.device).expand(logits.shape)
        count = len(logits), int(self._meaning.max()) + 1
        best = logits.new_empty(count).scatter_reduce(
            1, meaning, logits, "amax", include_self=False
        )
        beaten = logits < best.gather(1, meaning)
        first = numbers.masked_fill(beaten, logits.shape[1])
        answering = numbers.new_empty(count)
        return best, answering.scatter_reduce(1, meaning, first, "amin", include_self=False)

    def meanings(self, classes: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        """Numbers by meaning of classes of the data.

        Raises:
            ValueError: no class of the model answers for one of them.
        """
        if self._meaning is None:
            return classes
        found = self._of_data.to(classes.device)[classes]
        if (found < 0).any():
            raise ValueError("no class of the model answers for one of the classes asked about.")
        return found
