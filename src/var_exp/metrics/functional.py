"""The pure functions behind the metrics: tensors in, one score per map out."""

from var_exp.metrics.class_sensitivity import class_sensitivity
from var_exp.metrics.energy_pointing_game import energy_pointing_game
from var_exp.metrics.energy_share import energy_share
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.pointing_game import pointing_game

__all__ = [
    "class_sensitivity",
    "deletion_auc",
    "energy_pointing_game",
    "energy_share",
    "grid_pointing_game",
    "insertion_auc",
    "pointing_game",
]
