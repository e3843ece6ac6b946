"""Measures: pure functions with one score per map, and torchmetrics classes around them.

The functions are in `var_exp.metrics.functional`.
"""

from var_exp.metrics.class_sensitivity import ClassSensitivity
from var_exp.metrics.energy_pointing_game import EnergyPointingGame
from var_exp.metrics.energy_share import EnergyShare, IrrelevantEnergyShare
from var_exp.metrics.grid_pointing_game import GridPointingGame
from var_exp.metrics.insertion_deletion import DeletionAUC, InsertionAUC
from var_exp.metrics.pointing_game import PointingGame

__all__ = [
    "ClassSensitivity",
    "DeletionAUC",
    "EnergyPointingGame",
    "EnergyShare",
    "GridPointingGame",
    "InsertionAUC",
    "IrrelevantEnergyShare",
    "PointingGame",
]
