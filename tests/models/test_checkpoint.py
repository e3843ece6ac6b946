"""Weights are found in whatever wraps them, and bring along what goes with them."""

import argparse
import json
import logging
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from var_exp.models import class_names, input_spec, load_model
from var_exp.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from var_exp.types import MissingWeights

TINY = "test_resnet.r160_in1k"
VIT = "test_vit.r160_in1k"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=7).state_dict()


def same(model, state):
    mine = model.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[k], state[k]) for k in state)


def prefixed(state, prefix, **others):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()} | others


def doubled(state):
    return {name: 2 * tensor for name, tensor in state.items()}


WRAPS = {
    "plain": lambda s: s,
    "Lightning": lambda s: {
        "state_dict": prefixed(s, "model.", **{"loss.weight": torch.ones(7)}),
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1, "folder": Path("runs")},
    },
    "Lightning, deeper": lambda s: {"state_dict": prefixed(s, "net.backbone.")},
    "several processes": lambda s: prefixed(s, "module."),
    "compiled": lambda s: {"model": prefixed(s, "_orig_mod.")},
    "timm": lambda s: {
        "epoch": 1,
        "arch": "x",
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {}},
        "state_dict": s,
    },
    "timm, averaged": lambda s: {
        "state_dict": doubled(s),
        "state_dict_ema": prefixed(s, "module."),
    },
}


@pytest.mark.parametrize("kind", WRAPS)
def test_weights_are_found_whatever_wraps_them_with_their_number_of_classes(tmp_path, state, kind):
    torch.save(WRAPS[kind](state), tmp_path / "a.ckpt")
    model = load_model(TINY, checkpoint=tmp_path / "a.ckpt")
    assert same(model, state)
    assert model.num_classes == 7
    assert class_names(model) is None


@pytest.mark.parametrize(
    "name", [VIT, "vgg11", "test_convnext.r160_in1k", "deit_tiny_distilled_patch16_224"]
)
def test_heads_of_other_architectures_tell_their_number_of_classes(tmp_path, name):
    model = timm.create_model(name, num_classes=3)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert load_model(name, checkpoint=tmp_path / "a.safetensors").num_classes == 3


def test_two_models_that_fit_are_refused(tmp_path, state):
    torch.save(prefixed(state, "teacher.") | prefixed(state, "student."), tmp_path / "a.pt")
    with pytest.raises(MissingWeights, match=r"several models that fit: student\., teacher"):
        load_model(TINY, checkpoint=tmp_path / "a.pt")


def test_more_in_the_same_place_is_refused(tmp_path, state):
    torch.save(prefixed({**state, "more": torch.zeros(1)}, "model."), tmp_path / "a.pt")
    with pytest.raises(MissingWeights, match="more"):
        load_model(TINY, checkpoint=tmp_path / "a.pt")


class Noisy:
    """A pickle of it writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def test_pickles_run_only_when_the_user_says_so(tmp_path, state, caplog):
    torch.save({"state_dict": state, "more": Noisy(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(MissingWeights, match=r"if you trust who made it, model.trust_pickle=true"):
        load_model(TINY, checkpoint=tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    with caplog.at_level(logging.WARNING, "var_exp"):
        model = load_model(TINY, checkpoint=tmp_path / "a.pt", trust_pickle=True)
    assert same(model, state)
    assert (tmp_path / "ran").exists()
    assert "a.pt' is a pickle: the code in it runs now" in caplog.text


def test_a_whole_pickled_model_is_read_when_trusted(tmp_path):
    net = timm.create_model(TINY)
    torch.save(net, tmp_path / "a.pt")
    with pytest.raises(MissingWeights, match="trust_pickle"):
        load_model(TINY, checkpoint=tmp_path / "a.pt")
    assert same(load_model(TINY, checkpoint=tmp_path / "a.pt", trust_pickle=True), net.state_dict())


def test_what_we_write_brings_names_and_input_along(tmp_path):
    overlay = {"input_size": (3, 96, 96), "mean": (0.1, 0.2, 0.3), "crop_pct": 0.5}
    net = timm.create_model(TINY, num_classes=3, pretrained_cfg_overlay=overlay)
    write_checkpoint(tmp_path / "a.safetensors", net, ["ä", "b", "c"])
    model = load_model(TINY, checkpoint=tmp_path / "a.safetensors")
    assert same(model, net.state_dict())
    assert class_names(model) == ("ä", "b", "c")
    spec = input_spec(model)
    assert (spec.size, spec.mean, spec.crop_pct) == (96, (0.1, 0.2, 0.3), 0.5)
    assert input_spec(load_model(TINY, pretrained=False)).size == 160
    # the file's own names decide, whatever an alias says of the number of classes
    assert load_model(TINY, checkpoint=tmp_path / "a.safetensors", num_classes=16).num_classes == 3


def test_names_and_input_may_lie_beside_the_file(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    names = [f"name {i}" for i in range(7)]
    said = {"label_names": names[::-1], "pretrained_cfg": {"mean": [0.1] * 3, "url": "x"}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    model = load_model(TINY, checkpoint=tmp_path / "model.safetensors")
    assert class_names(model) == tuple(names[::-1])
    assert input_spec(model).mean == (0.1,) * 3
    (tmp_path / "model.classes.txt").write_text("\n".join(names) + "\n")
    model = load_model(TINY, checkpoint=tmp_path / "model.safetensors")
    assert class_names(model) == tuple(names)
    (tmp_path / "model.classes.txt").write_text("one\ntwo\n")
    with pytest.raises(MissingWeights, match="its head has 7 classes, and 2 names go with it"):
        load_model(TINY, checkpoint=tmp_path / "model.safetensors")


def test_a_checkpoint_without_a_known_head_says_nothing_of_classes():
    assert Checkpoint({"a.weight": torch.ones(3)}).classes("fc") is None
    assert Checkpoint({"fc.weight": torch.ones(3, 2)}).classes(None) is None


@pytest.mark.parametrize("content", [nn.Linear(2, 2).bias, {}, {"state_dict": {}}, {"a": 1}])
def test_files_without_weights_say_so(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="it is no state dict"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="it is a device or a pipe, no file"):
        read_checkpoint(tmp_path / name)
