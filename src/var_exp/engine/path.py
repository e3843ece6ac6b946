"""The straight path from the mean colour to the image: what the logits do on it, and where to look.

A point of the path is a · x, a = 0 … 1; zero in normalised space is the data set's mean colour.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from var_exp.engine.chunks import ChunkLimit
from var_exp.engine.scores import check_logits
from var_exp.models.frozen import frozen
from var_exp.types import Images


def logits_on_path(
    model: nn.Module, images: Images, intervals: int, limit: ChunkLimit
) -> Float[Tensor, "B n N"]:
    """Logits at the `intervals` + 1 ends of equal parts of the path, in float64 on the CPU."""
    positions = torch.linspace(0, 1, intervals + 1).to(images)

    def logits(rows: Tensor, ends: Tensor) -> Tensor:
        points = positions[ends].view(-1, 1, 1, 1) * images[rows]
        with torch.no_grad(), frozen(model):
            return check_logits(model(points))

    found = [chunk for *_, chunk in limit.pairs(len(images), intervals + 1, logits)]
    return torch.cat(found).double().cpu().view(len(images), intervals + 1, -1)


def equal_cells(amounts: Float[Tensor, "B n"], cells: int) -> Float[Tensor, "B m"]:
    """Divide the path into cells that hold equal amounts of what half is even and half as given.

    Half is spread evenly, so that no part of the path is left out.

    Args:
        amounts: Of each equal part of the path, >= 0; all of it is even where they are zero.
        cells: How many.

    Returns:
        The `cells` + 1 ends of the cells, positions 0 … 1.
    """
    parts = amounts.shape[1]
    total = amounts.sum(1, keepdim=True)
    even = torch.full_like(amounts, 1 / parts)
    mixed = even / 2 + torch.where(total > 0, amounts / total, even) / 2
    cumulative = pad(mixed.cumsum(1), (1, 0))
    equal, positions = np.linspace(0, 1, cells + 1), np.linspace(0, 1, parts + 1)
    edges = [np.interp(equal, row / row[-1], positions) for row in cumulative.numpy()]
    return torch.as_tensor(np.stack(edges))
