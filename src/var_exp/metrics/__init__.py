"""Measures: pure functions with one score per map, and torchmetrics classes around them.

The functions are in `var_exp.metrics.functional`.
"""

from var_exp.metrics import functional
from var_exp.metrics.abpc import ABPC
from var_exp.metrics.aopc import AOPC
from var_exp.metrics.average_drop import AverageDrop, AverageIncrease
from var_exp.metrics.class_sensitivity import ClassSensitivity
from var_exp.metrics.complexity import Complexity
from var_exp.metrics.contrastive_deletion import ContrastiveDeletion
from var_exp.metrics.efficient_randomization import EfficientRandomization
from var_exp.metrics.energy_pointing_game import EnergyPointingGame
from var_exp.metrics.energy_share import EnergyShare, IrrelevantEnergyShare
from var_exp.metrics.f_fidelity import FFidelity
from var_exp.metrics.grid_confusion import GridConfusion
from var_exp.metrics.grid_pointing_game import GridPointingGame
from var_exp.metrics.infidelity import Infidelity
from var_exp.metrics.insertion_deletion import DeletionAUC, InsertionAUC
from var_exp.metrics.intervention import Intervention
from var_exp.metrics.irof import IROF
from var_exp.metrics.lerf import LerfAUC
from var_exp.metrics.max_sensitivity import MaxSensitivity
from var_exp.metrics.model_randomization import (
    ModelRandomization,
    RandomizedAccuracy,
    RandomizedEntropy,
)
from var_exp.metrics.overlap import Overlap
from var_exp.metrics.part_deletion import PartDeletion, RegionEffect
from var_exp.metrics.perturber import Perturber
from var_exp.metrics.pixel_ranking import PixelRanking
from var_exp.metrics.pointing_game import PointingGame
from var_exp.metrics.relative_stability import RelativeStability
from var_exp.metrics.relevance_rank_accuracy import RelevanceRankAccuracy
from var_exp.metrics.road import Road, RoadLerf
from var_exp.metrics.saco import SaCo
from var_exp.metrics.segmentation import Segmentation
from var_exp.metrics.sensitivity_n import SensitivityN
from var_exp.metrics.smooth_randomization import SmoothRandomization
from var_exp.metrics.sparseness import Sparseness

__all__ = [
    "ABPC",
    "AOPC",
    "IROF",
    "AverageDrop",
    "AverageIncrease",
    "ClassSensitivity",
    "Complexity",
    "ContrastiveDeletion",
    "DeletionAUC",
    "EfficientRandomization",
    "EnergyPointingGame",
    "EnergyShare",
    "FFidelity",
    "GridConfusion",
    "GridPointingGame",
    "Infidelity",
    "InsertionAUC",
    "Intervention",
    "IrrelevantEnergyShare",
    "LerfAUC",
    "MaxSensitivity",
    "ModelRandomization",
    "Overlap",
    "PartDeletion",
    "Perturber",
    "PixelRanking",
    "PointingGame",
    "RandomizedAccuracy",
    "RandomizedEntropy",
    "RegionEffect",
    "RelativeStability",
    "RelevanceRankAccuracy",
    "Road",
    "RoadLerf",
    "SaCo",
    "Segmentation",
    "SensitivityN",
    "SmoothRandomization",
    "Sparseness",
    "functional",
]
