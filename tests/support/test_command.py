"""`python -m var_exp.support model=…`: words to a network, findings to a table."""

import pytest
import torch
from safetensors.torch import save_file

from var_exp.models.targets import find_target
from var_exp.support import Finding, support
from var_exp.support import __main__ as command
from var_exp.types import ConfigError


def test_which_methods_act_on_a_network_of_ones_own(monkeypatch):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 9)
    )
    told = []
    methods = ["gradient", "gbp", "attnlrp", "deeplift", "lrp", "scorecam"]
    found = support(model, torch.rand(3, 8, 8), methods, progress=told.append)
    assert told == methods
    by_method = {each.method: each for each in found}
    assert {name: each.status for name, each in by_method.items()} == {
        "gradient": "acts",
        "gbp": "refused",
        "attnlrp": "refused",
        "deeplift": "acts",
        "lrp": "unchecked",
        "scorecam": "unchecked",
    }
    assert by_method["gradient"].checked_by == (
        "Finite differences of the scores along random directions"
    )
    assert by_method["gbp"].reason.startswith("the model has no activation that")
    assert by_method["lrp"].reason == "the check has no stand-in for tanh"
    assert by_method["scorecam"].reason.startswith("it makes a pass for every channel")
    (thorough,) = support(model, torch.rand(3, 8, 8), ["scorecam"], thorough=True)
    assert (thorough.status, thorough.forward) == (
        "acts",
        6,
    )  # the layer's output, 4 channels, none; the layer itself is known by now


def test_a_class_activation_map_says_which_layer_it_reads():
    model = command.network(["model=critters_cnn"])
    gradcam, gradient = support(model, methods=["gradcam", "gradient"])
    target = find_target(model, torch.zeros(1, 3, 64, 64))
    assert gradcam.layer == f"{target.name} {target.grid[0]} x {target.grid[1]}"
    assert gradcam.locality in (0, 1)
    assert (gradient.layer, gradient.locality) == ("", None)


def test_an_unknown_method_is_refused_before_the_work():
    with pytest.raises(ConfigError, match=r"no method 'gpb' \(did you mean 'gbp'\?\)"):
        support(torch.nn.ReLU(), methods=["gradient", "gpb"])


def test_the_command_prints_a_row_for_each_method(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert command.main(["model=critters_cnn", "--methods", "gbp", "attnlrp"]) == 0
    printed = capsys.readouterr().out
    assert "model=critters_cnn" in printed
    gbp, attnlrp = (line for line in printed.splitlines() if "gbp " in line or "attnlrp " in line)
    assert "acts" in gbp
    assert "Autograd with hooks that cut negative gradients" in gbp
    assert "refused" in attnlrp
    assert "the model has no attention; use method=lrp" in attnlrp


def test_any_name_of_timms_and_a_file_of_weights(tmp_path):
    words = ["model=resnet10t", "model.pretrained=false"]
    model = command.network(words)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert all(p.abs().max() > 0 for p in model.parameters())  # no zero biases or scales
    again = command.network([*reversed(words)])
    assert torch.equal(again.conv1[0].weight, model.conv1[0].weight)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    filed = command.network(["model=resnet10t", f"model.checkpoint={tmp_path}/weights.safetensors"])
    assert torch.equal(filed.fc.bias, model.fc.bias)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=resnet5"], "there is no model 'resnet5' (did you mean 'resnet50'?)"),
        (["model=critters_cnn", "model.pretrainde=false"], "no option 'pretrainde' (did you mean"),
        (["gbp"], "there is no 'gbp' here"),
        (["model.pretrained=false"], "no network is named"),
        (["model._target_=no.such"], "cannot import 'no.such'"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, sentence, capsys):
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said


def test_a_failed_method_ends_the_command_with_1(monkeypatch, capsys):
    failed = Finding("gbp", "ResNet", "failed", "no luck")
    monkeypatch.setattr(command, "support", lambda *_, **__: [failed])
    assert command.main(["model=critters_cnn"]) == 1
    assert "FAILED" in capsys.readouterr().out
