"""Nothing of what was learnt stays in a random layer, and everything stays in the others."""

from fractions import Fraction

import pytest
import timm
import torch
from torch import Generator, nn

from var_exp.models import load_model
from var_exp.models.randomize import RandomizedModels, redraw
from var_exp.seeds import sample_generator
from var_exp.types import UnsupportedModel

NETWORKS = {
    "residual": ("resnet10t", {}),
    "tokens": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "depth": 2, "reg_tokens": 2, "init_values": 1e-5, "class_token": True},
    ),
    "layer scale": ("convnext_atto", {"ls_init_value": 1e-6}),
    "windows": ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "num_heads": (1, 2)}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    name, options = NETWORKS[request.param]
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=5, **options).eval()


def learnt(model):
    statistics = {k: v for k, v in model.named_buffers() if "running" in k}
    return dict(model.named_parameters()) | statistics


def test_every_value_of_every_parameter_and_statistic_is_new(network):
    random = learnt(RandomizedModels(network).between(Fraction(0), Fraction(1)))
    assert random.keys() == learnt(network).keys()
    for name, tensor in learnt(network).items():
        drawn = random[name]
        assert drawn.shape == tensor.shape
        assert type(drawn) is type(tensor)
        assert (drawn == tensor).float().mean() < 1e-3, name
        assert drawn.isfinite().all()
        assert "running_var" not in name or (drawn > 0).all()


def test_values_depend_on_the_seed_and_the_name_alone(network):
    random = learnt(RandomizedModels(network, seed=3).between(Fraction(1, 2), Fraction(1)))
    changed = [name for name, tensor in learnt(network).items() if random[name] is not tensor]
    assert changed
    for name in changed:
        if "running_var" in name:
            continue
        values = learnt(network)[name].detach().double()
        noise = torch.randn(
            values.shape,
            generator=sample_generator(3, name if "." in name else f".{name}"),
            dtype=torch.float64,
        )
        spread = values.std(correction=0)
        if spread < 1e-9:
            spread = 0.1 * values.mean().abs() if values.mean() else torch.tensor(0.1)
        expected = (values.mean() + spread * noise).float()
        torch.testing.assert_close(random[name].detach(), expected)
    other = learnt(RandomizedModels(network, seed=4).between(Fraction(1, 2), Fraction(1)))
    assert not any(torch.equal(other[name], random[name]) for name in changed)


def test_stages_are_nested_and_share_what_they_do_not_change(network):
    models = RandomizedModels(network)
    full = learnt(models.between(Fraction(0), Fraction(1)))
    before: set[str] = set()
    for stage in range(1, 5):
        model = models.between(1 - Fraction(stage, 4), Fraction(1))
        random = {n for n, tensor in learnt(model).items() if tensor is not learnt(network)[n]}
        assert before < random
        assert all(learnt(model)[name] is full[name] for name in random)
        before = random
    assert before == set(full)
    groups = [models.between(Fraction(s, 4), Fraction(s + 1, 4)) for s in range(4)]
    changed = [
        {n for n, tensor in learnt(group).items() if tensor is not learnt(network)[n]}
        for group in groups
    ]
    assert set.union(*changed) == set(full)
    assert sum(map(len, changed)) == len(full)
    assert models.between(Fraction(0), Fraction(1, 4)) is groups[0]


def test_the_cascade_starts_at_the_logits_and_at_the_picture():
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).eval()
    models = RandomizedModels(net)
    assert len(models) == 4
    last = models.between(Fraction(3, 4), Fraction(1))
    assert [a.weight is b.weight for a, b in zip(last, net, strict=True)] == [True] * 3 + [False]
    first = models.between(Fraction(0), Fraction(1, 4))
    assert [a.weight is b.weight for a, b in zip(first, net, strict=True)] == [False] + [True] * 3


def test_the_model_itself_is_not_altered(network):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = RandomizedModels(network).between(Fraction(0), Fraction(1))
    assert not random.training
    images = torch.rand(2, 3, *(32, 32) if hasattr(network, "reg_token") else (224, 224))
    with torch.no_grad():
        assert not torch.allclose(random(images), network(images))
    assert all(torch.equal(state[name], t) for name, t in network.state_dict().items())


def test_a_tensor_of_two_layers_stays_one():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    random = RandomizedModels(net).between(Fraction(0), Fraction(1))
    assert random[2].weight is random[0].weight
    assert random[2].weight is not net[2].weight


def test_mean_and_spread_stay():
    values = nn.Parameter(3 + 0.5 * torch.randn(200, 100, generator=Generator().manual_seed(0)))
    drawn = redraw(values, Generator().manual_seed(1))
    assert drawn.mean().item() == pytest.approx(3, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.01)
    both = torch.stack([values.flatten(), drawn.flatten()]).detach()
    assert torch.corrcoef(both)[0, 1].abs() < 0.03
    variances = torch.exp(torch.randn(20000, generator=Generator().manual_seed(2)))
    drawn = redraw(variances, Generator().manual_seed(3), "running_var")
    assert drawn.log().std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_one_repeated_value_is_spread(value):
    drawn = redraw(torch.full((5000,), value), Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(value, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.1 * (abs(value) or 1), rel=0.05)


@pytest.mark.parametrize("alias", ["critters_cnn", "critters_vit"])
def test_a_random_model_gives_finite_logits_that_differ_between_pictures(alias):
    random = RandomizedModels(load_model(alias)).between(Fraction(0), Fraction(1))
    images = torch.randn(4, 3, 64, 64, generator=Generator().manual_seed(0))
    with torch.no_grad():
        logits = random(images)
    assert logits.isfinite().all()
    assert logits.std(0).min() > 0


def test_refusals():
    with pytest.raises(UnsupportedModel, match="no parameters"):
        RandomizedModels(nn.Flatten())
    with pytest.raises(UnsupportedModel, match="1 layers, too few for this many stages"):
        RandomizedModels(nn.Linear(2, 2)).between(Fraction(3, 4), Fraction(4, 5))
