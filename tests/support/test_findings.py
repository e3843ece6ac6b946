"""What is found of methods that work, refuse, break or leave traces."""

from dataclasses import dataclass

import pytest
import timm
import torch
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.gradient import Gradient
from var_exp.support import findings
from var_exp.support.__main__ import network
from var_exp.support.findings import examine, support
from var_exp.support.networks import Subject, subject
from var_exp.types import UnsupportedModel


@pytest.fixture
def on() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 9))
    model.double().eval().requires_grad_(False)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    classes = torch.tensor([[3, 0, 7, 5], [1, 8, 2, 3]])
    return Subject("tiny", model, images, classes)


@pytest.mark.parametrize(
    ("alias", "forward", "backward", "guided"),
    [
        ("gradient", 1, 4, ""),
        ("ig", 3, 12, ""),
        ("rise", 6, 0, ""),
        ("occlusion", 2, 0, ""),  # one window covers the small image
        ("gbp", 1, 4, "relu 1"),
        ("captum", 9, 8, ""),  # the images and their baselines, and one to count the classes
    ],
)
def test_passes_and_guided_calls_are_counted_per_image(on, alias, forward, backward, guided):
    found = examine(alias, on)
    assert found.status == "acts", found.reason
    assert (found.forward, found.backward, found.guided) == (forward, backward, guided)
    assert found.error < 1e-4


def test_a_refusal_is_the_first_sentence_without_the_name_of_the_class(on):
    on.model[1] = nn.Sigmoid()
    found = examine("gbp", on)
    assert found.status == "refused"
    assert found.reason == (
        "the model has no activation that activations=all acts on, so the result would be the "
        "plain gradient; use method=gradient"
    )


@dataclass(frozen=True)
class Wrong(Gradient):
    """A gradient with something wrong."""

    kind: str = ""

    def check(self, model, image):
        if self.kind == "check raises":
            raise ArithmeticError("no luck. At all.")
        if self.kind == "only check refuses":
            raise UnsupportedModel("not this one.")

    def _attribute(self, model, images, classes, ids):
        maps = super()._attribute(model, images, classes, ids)
        if self.kind == "only attribute refuses":
            raise UnsupportedModel("not this one.")
        if self.kind == "not finite":
            maps[0, 0, 0, 0, 0] = torch.nan
        elif self.kind == "zero":
            maps.zero_()
        elif self.kind == "of the batch":
            maps = maps - maps.mean(0) / 100
        elif self.kind == "of the classes":
            maps = maps - maps.mean(1, keepdim=True) / 100
        elif self.kind == "leaves a hook":
            model[0].register_forward_hook(lambda *_: None)
        elif self.kind == "trains":
            model.train()
        elif self.kind == "asks for gradients":
            model.requires_grad_(True)
        elif self.kind == "alters a weight":
            model[0].weight.data[0, 0, 0, 0] += 1e-3
        elif self.kind == "a share too large":
            maps *= 1.01
        return maps


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("check raises", "ArithmeticError: no luck"),
        ("only check refuses", "check refuses the model, attribute does not"),
        ("only attribute refuses", "not this one"),
        ("not finite", "the maps are not finite"),
        ("zero", "all maps are zero"),
        ("of the batch", "a map depends on the other images or classes of the call"),
        ("of the classes", "a map depends on the other images or classes of the call"),
        ("leaves a hook", "the model was altered"),
        ("trains", "the model was altered"),
        ("asks for gradients", "the model was altered"),
        ("alters a weight", "the model was altered"),
        ("a share too large", "the error of the check is 1.0e-02"),
    ],
)
def test_a_method_with_something_wrong_fails(on, monkeypatch, kind, reason):
    monkeypatch.setattr(findings, "get_method", lambda alias: Wrong(kind=kind))
    found = examine("gradient", on)
    assert found.status == "failed"
    assert reason in found.reason


def test_the_same_method_without_anything_wrong_acts(on, monkeypatch):
    monkeypatch.setattr(findings, "get_method", lambda alias: get_method("gradient"))
    assert examine("gradient", on).status == "acts"


class Blurred(nn.Module):
    """Logits of an image in single precision, whatever its type."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 8 * 8, 9)

    def forward(self, images):
        return self.head(images.flatten(1).float().tanh().to(images))


class HiddenActivation(nn.Module):
    """An activation in place on a view, whose node in the graph is that of the copy."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 9)

    def forward(self, images):
        x = self.first(images)
        nn.functional.relu(x.permute(0, 2, 3, 1), inplace=True)
        return self.head(x.flatten(1))


class Standardised(nn.Module):
    """Weights that are standardised by a batch norm of their own, as in NFNets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.head = nn.Linear(4 * 6 * 6, 9)

    def forward(self, images):
        flat = self.weight.reshape(1, 4, -1)
        weight = nn.functional.batch_norm(flat, None, None, training=True).view_as(self.weight)
        return self.head(nn.functional.conv2d(images, weight).relu().flatten(1))


@pytest.mark.parametrize(
    ("model", "alias", "status", "reason"),
    [
        (Blurred, "gradient", "unchecked", "the finite differences of the check do not settle"),
        (HiddenActivation, "gbp", "unchecked", "an activation may be hidden"),
        (HiddenActivation, "gradient", "acts", ""),
        (Standardised, "lrp", "acts", ""),
        (Standardised, "fullgrad", "acts", ""),
    ],
)
def test_what_a_check_cannot_tell_is_unchecked(model, alias, status, reason):
    finding = examine(alias, subject(model(), torch.randn(3, 8, 8)))
    assert (finding.status, finding.reason[: len(reason)]) == (status, reason)


def test_a_wrong_gradient_is_not_excused_by_differences_that_settle(on, monkeypatch):
    monkeypatch.setattr(findings, "get_method", lambda alias: Wrong(kind="a share too large"))
    assert examine("gradient", on).status == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("test_efficientnet_evos", ["gradient", "lrp"]),
        ("test_efficientnet_ln", ["gbp", "deconvnet", "idg", "lrp"]),
        ("test_maxvit", ["attnlrp"]),
        ("test_nfnet", ["fullgrad", "lrp"]),
        ("test_vit3", ["fullgrad", "deeplift"]),
        ("test_vit_relpos", ["attention_rollout", "transformer_attribution"]),
    ],
)
def test_nothing_fails_on_networks_that_the_checks_were_not_written_for(name, methods):
    if name not in timm.list_models():
        pytest.skip(f"this version of timm has no {name}")
    for finding in support(network([f"model={name}", "model.pretrained=false"]), methods=methods):
        assert finding.status in ("acts", "unchecked"), f"{finding.method}: {finding.reason}"
