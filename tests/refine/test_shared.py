"""Shared evidence: common to all classes, won by none."""

import itertools
import math

import pytest
import torch

from var_exp.data.batches import collate
from var_exp.data.critter_siblings import CritterSiblings
from var_exp.methods import get_method
from var_exp.models import input_spec, load_model
from var_exp.refine.shared import SharedEvidence, shared_evidence
from var_exp.refine.var import VAR


def by_hand(values, temperature):
    """One location, one channel, raw units, signed: in Python floats."""
    powers = [math.exp(temperature * v) for v in values]
    shares = [p / sum(powers) for p in powers]
    entropy = -sum(s * math.log(s) for s in shares if s > 0)
    return min(max(v, 0.0) for v in values) * entropy / math.log(len(values))


def test_equals_a_loop():
    maps = torch.randn(2, 3, 1, 4, 5, generator=torch.Generator().manual_seed(0)).double() + 0.5
    found = shared_evidence(maps, VAR(temperature=1.7, magnitude="signed"))
    for b, y, x in itertools.product(range(2), range(4), range(5)):
        expected = by_hand(maps[b, :, 0, y, x].tolist(), 1.7)
        assert found[b, y, x].item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert (found > 0).any()


def test_level_classes_share_everything_and_a_winner_leaves_nothing():
    """Columns: all level; one has nothing; one wins by far; all negative."""
    maps = torch.tensor([[2.0, 2.0, 50.0, -1.0], [2.0, 0.0, 1.0, -1.0], [2.0, 2.0, 1.0, -1.0]])
    found = shared_evidence(maps.view(1, 3, 1, 1, 4), VAR(temperature=1.0, magnitude="signed"))
    assert found.flatten()[[0, 1, 3]].tolist() == [2.0, 0.0, 0.0]
    assert 0 <= found.flatten()[2] < 1e-12


@pytest.mark.parametrize("count", range(2, 20))
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_level_classes_share_no_more_than_they_have_whatever_the_rounding(count, kind):
    """Entropy over ln K is more than 1 in the last digit for 6 classes, say."""
    maps = torch.full((1, count, 1, 2, 2), 3.0, dtype=kind)
    assert (shared_evidence(maps) <= 3.0).all()


def test_never_more_than_any_class_has_and_its_units_are_those_of_the_maps():
    maps = torch.randn(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    found = shared_evidence(maps)
    assert (found <= maps.sum(2).clamp_min(0).amin(1) + 1e-7).all()
    torch.testing.assert_close(shared_evidence(1000 * maps), 1000 * found)  # scaled by its rms
    order = [2, 0, 3, 1]
    torch.testing.assert_close(shared_evidence(maps[:, order]), found)


def test_every_class_gets_the_same_map():
    maps = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    refined = SharedEvidence()(maps)
    assert refined.shape == (2, 4, 1, 4, 4)
    assert torch.equal(refined[:, 0, 0], shared_evidence(maps))
    assert torch.equal(refined, refined[:, [2, 0, 3, 1]])
    sharp = VAR(temperature=1.7, magnitude="signed")
    assert not torch.equal(shared_evidence(maps, sharp), shared_evidence(maps))
    assert torch.equal(SharedEvidence(sharp)(maps)[:, 0, 0], shared_evidence(maps, sharp))
    with pytest.raises(ValueError, match="at least two classes must compete"):
        SharedEvidence()(maps[:, :1])


def test_siblings_share_the_parts_that_they_share():
    """On 60 critters: more of it lies off the differing part than of the class's own evidence."""
    model = load_model("critters_cnn")
    data = CritterSiblings(count=60, asked="shared", seed="test")
    (batch,) = collate([data[i] for i in range(60)], input_spec(model))
    classes = torch.cat([batch.classes, batch.competitors], 1)
    maps = get_method("gbp").attribute(model, batch.images, classes)

    def on_shared_parts(values):
        within = values.clamp_min(0) * batch.scope[:, 0]
        return ((within * batch.regions[:, 0]).sum((1, 2)) / within.sum((1, 2))).mean()

    shared, base = shared_evidence(maps), maps[:, 0].sum(1)
    refined = VAR.scaled()(maps)[:, 0, 0]
    assert on_shared_parts(shared) > on_shared_parts(base) + 0.03
    assert on_shared_parts(refined) < on_shared_parts(base)
