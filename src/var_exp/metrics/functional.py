"""The pure functions behind the metrics: tensors in, one score per map out."""

from var_exp.metrics.abpc import abpc
from var_exp.metrics.aopc import aopc
from var_exp.metrics.average_drop import average_drop, average_increase
from var_exp.metrics.class_sensitivity import class_sensitivity
from var_exp.metrics.complexity import complexity
from var_exp.metrics.contrastive_deletion import contrastive_deletion
from var_exp.metrics.efficient_randomization import histogram_entropy
from var_exp.metrics.energy_pointing_game import energy_pointing_game
from var_exp.metrics.energy_share import energy_share
from var_exp.metrics.f_fidelity import f_fidelity
from var_exp.metrics.grid_confusion import grid_confusion
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.metrics.infidelity import infidelity
from var_exp.metrics.insertion_deletion import deletion_auc, insertion_auc
from var_exp.metrics.intervention import intervention
from var_exp.metrics.irof import irof
from var_exp.metrics.lerf import lerf_auc
from var_exp.metrics.max_sensitivity import max_sensitivity
from var_exp.metrics.overlap import overlap
from var_exp.metrics.part_deletion import part_deletion
from var_exp.metrics.pixel_ranking import pixel_ranking
from var_exp.metrics.pointing_game import pointing_game
from var_exp.metrics.relative_stability import relative_stability
from var_exp.metrics.relevance_rank_accuracy import relevance_rank_accuracy
from var_exp.metrics.road import road
from var_exp.metrics.saco import saco
from var_exp.metrics.segmentation import segmentation
from var_exp.metrics.sensitivity_n import sensitivity_n
from var_exp.metrics.similarity import map_similarity
from var_exp.metrics.sparseness import sparseness

__all__ = [
    "abpc",
    "aopc",
    "average_drop",
    "average_increase",
    "class_sensitivity",
    "complexity",
    "contrastive_deletion",
    "deletion_auc",
    "energy_pointing_game",
    "energy_share",
    "f_fidelity",
    "grid_confusion",
    "grid_pointing_game",
    "histogram_entropy",
    "infidelity",
    "insertion_auc",
    "intervention",
    "irof",
    "lerf_auc",
    "map_similarity",
    "max_sensitivity",
    "overlap",
    "part_deletion",
    "pixel_ranking",
    "pointing_game",
    "relative_stability",
    "relevance_rank_accuracy",
    "road",
    "saco",
    "segmentation",
    "sensitivity_n",
    "sparseness",
]
