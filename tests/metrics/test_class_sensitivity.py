"""Class sensitivity against scipy's Pearson correlation."""

import pytest
import torch
from scipy.stats import pearsonr

from var_exp.metrics import ClassSensitivity
from var_exp.metrics.base import Flag
from var_exp.metrics.class_sensitivity import class_sensitivity


def test_equals_pearson_over_the_summed_channels():
    generator = torch.Generator().manual_seed(0)
    maps, competitors = torch.randn(2, 5, 3, 8, 7, generator=generator)
    competitors = competitors + 0.7 * maps
    for scale in (1.0, 1e-30):  # squares of the small ones vanish in float32
        scores = class_sensitivity(maps * scale, competitors)
        for n in range(5):
            expected = pearsonr(maps[n].sum(0).flatten(), competitors[n].sum(0).flatten()).statistic
            assert scores[n].item() == pytest.approx(expected, abs=1e-5)


def test_one_map_for_both_classes_opposite_maps_and_maps_apart():
    left = torch.zeros(1, 1, 2, 2)
    left[..., 0, :] = 1
    assert class_sensitivity(left, 3 * left + 1).item() == pytest.approx(1)
    assert class_sensitivity(left, -left).item() == pytest.approx(-1)
    assert class_sensitivity(left, left.transpose(2, 3)).item() == pytest.approx(0, abs=1e-12)


def test_constant_and_empty_maps_are_undefined_and_counted():
    metric = ClassSensitivity()
    maps = torch.stack(
        [torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.full((1, 2, 2), torch.inf)]
    )
    metric.update(maps=maps, other_maps=torch.rand(3, 1, 2, 2))
    scores, flags = metric.latest
    assert scores.isnan().all()
    assert flags.tolist() == [Flag.EMPTY_MAP + Flag.TIED, Flag.TIED, Flag.NON_FINITE]


def test_maps_of_other_shapes():
    with pytest.raises(ValueError, match="of one N, h and w"):
        class_sensitivity(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 2))


def test_rows_are_told_apart_by_sample_and_class():
    metric = ClassSensitivity()
    maps = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for sign, label, id in ((1, 0, "a"), (-1, 0, "a"), (-1, 1, "a"), (1, 0, "b")):
        metric.update(maps=maps, other_maps=sign * maps, classes=torch.tensor([label]), ids=[id])
    assert metric.compute().item() == pytest.approx(1 / 3)  # the second has been seen
