"""Methods that stand alone."""

import warnings
from copy import deepcopy

import torch

from var_exp.matrix.checks.case import Case, relative_error


def captum(case: Case) -> float:
    """Captum called directly, one class at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum announces its hooks
        maps = [
            case.method.factory(deepcopy(case.model)).attribute(
                case.image.clone(), target=int(chosen)
            )
            for chosen in case.classes[0]
        ]
    return relative_error(case.maps, torch.cat(maps).detach())


def fullgrad(case: Case) -> float:
    """Sums of the maps against the logits."""
    with torch.no_grad():
        scores = case.scores(case.image)[0]
    return relative_error(case.maps.sum((1, 2, 3)), scores)
