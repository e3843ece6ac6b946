"""The pure functions behind the metrics: tensors in, one score per map out."""

from var_exp.metrics.energy_pointing_game import energy_pointing_game
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.pointing_game import pointing_game

__all__ = [
    "deletion_auc",
    "energy_pointing_game",
    "grid_pointing_game",
    "insertion_auc",
    "pointing_game",
]
