"""Attributing a batch again: once for all variants, with everything but the change as it was."""

import pytest
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.modules.reattribution import Reattribution
from var_exp.modules.variants import Attributed, Variants
from var_exp.refine.controls import edge_map
from var_exp.refine.var import VAR
from var_exp.variants import variants_of

REFINERS = {"var": VAR(temperature=1000.0)}
IDS = ("left", "right")


class Counting:
    """Guided backpropagation that counts its calls."""

    def __init__(self):
        self.calls = []

    def attribute(self, model, images, classes, *, ids=None):
        self.calls.append((classes, ids))
        return get_method("gbp").attribute(model, images, classes, ids=ids)


def network(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 7))
    return net.eval().requires_grad_(False)


def variants(attributed):
    return Variants(attributed, REFINERS, controls=True, seed=5)


@pytest.fixture
def batch():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    classes, random_classes = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[6, 3], [0, 1]])
    regions = torch.zeros(2, 2, 8, 8, dtype=torch.bool)
    regions[:, 0, :4] = regions[:, 1, 4:] = True
    return of(network(0), images, classes, random_classes, regions)


def of(model, images, classes, random_classes, regions):
    maps = get_method("gbp").attribute(
        model, images, torch.cat([classes, random_classes], 1), ids=IDS
    )
    return Attributed(images, IDS, model(images), classes, random_classes, maps, 2, regions)


def expected(batch, model, images):
    """All variants of a fresh start with the changed model and pictures."""
    return variants(of(model, images, batch.classes, batch.random_classes, batch.regions))


@pytest.mark.parametrize("name", [v.name for v in variants_of(["var"], controls=True)])
@pytest.mark.parametrize("changed", ["model", "images"])
def test_maps_are_those_of_a_fresh_start(batch, name, changed):
    model = network(1) if changed == "model" else network(0)
    images = batch.images.flip(3) if changed == "images" else batch.images
    reattribute = Reattribution(Counting(), network(0), variants).of(batch, name, asked=2)
    maps = reattribute.maps("key", lambda *_: (model, images))
    wanted = expected(batch, model, images)[name]
    assert torch.equal(maps, wanted.flatten(0, 1))
    assert torch.equal(reattribute.logits("key", lambda *_: None)[:3:2], model(images))
    before = variants(batch)[name].flatten(0, 1)
    never = {"uniform_map", "random_map", "gaussian_map", "oracle_map"}
    if changed == "model":
        never |= {"edge_map"}
    assert torch.equal(maps, before) == (name in never)


def test_the_change_sees_the_model_the_pictures_and_their_ids(batch):
    model, seen = network(0), []

    def change(*given):
        seen.append(given)
        return given[0], given[1]

    Reattribution(Counting(), model, variants).of(batch, "base", 2).maps("key", change)
    assert seen[0][0] is model
    assert seen[0][1] is batch.images
    assert seen[0][2] == IDS


def test_a_key_is_attributed_once_for_all_variants(batch):
    method = Counting()
    reattribute = Reattribution(method, network(0), variants)
    for key in ("one", "two"):
        for name in variants(batch):
            reattribute.of(batch, name, 2).maps(key, lambda model, images, _: (model, images))
    assert len(method.calls) == 2
    assert torch.equal(method.calls[0][0], torch.cat([batch.classes, batch.random_classes], 1))
    assert method.calls[0][1] == IDS


def test_changes_start_from_the_network_as_given_and_the_ready_one_is_asked_where_they_leave_it(
    batch,
):
    ready, given, altered, asked = network(0), network(0), network(1), []

    class Asking(Counting):
        def attribute(self, model, images, classes, *, ids=None):
            asked.append(model)
            return super().attribute(model, images, classes, ids=ids)

    def handed():
        return Reattribution(Asking(), ready, variants, given).of(batch, "base", 1)

    def altering(model, images, _):
        assert model is given
        return altered, images

    handed().maps("noise", lambda model, images, _: (model, images))
    handed().maps("drawn anew", altering)
    assert [model is ready for model in asked] == [True, False]
    assert asked[1] is altered


def test_another_batch_starts_afresh_and_keeps_what_is_for_all(batch):
    method = Counting()
    reattribute = Reattribution(method, network(0), variants)
    other = of(network(0), batch.images + 1, batch.classes, batch.random_classes, batch.regions)
    for some in (batch, other):
        handed = reattribute.of(some, "base", 1)
        assert handed.once("drawn", object) is reattribute.once("drawn", object)
        maps = handed.maps("key", lambda model, images, _: (model, images))
        assert torch.equal(maps, some.maps[:, 0])
    assert len(method.calls) == 2


def test_edges_are_those_of_the_new_picture(batch):
    reattribute = Reattribution(Counting(), network(0), variants).of(batch, "edge_map", 1)
    maps = reattribute.maps("key", lambda model, images, _: (model, images.flip(3)))
    assert torch.equal(maps, edge_map(batch.images.flip(3)))
