"""What files say of their weights is believed only when it can be."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from var_exp.models import class_names, load_model
from var_exp.models.checkpoint import read_checkpoint
from var_exp.models.metadata import check_input, check_names, read_hub_config
from var_exp.types import MissingWeights

TINY = "test_resnet.r160_in1k"
GOOD = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.9}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=3).state_dict()


def refused(file, *words):
    with pytest.raises(MissingWeights) as error:
        load_model(TINY, checkpoint=file)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_can_be_is_taken_as_it_is():
    upright, grey = (
        {"input_size": [3, 128, 64]},
        {"input_size": [1, 28, 28], "mean": [0.5], "std": [0.3]},
    )
    assert check_input(upright, "it") == upright
    assert check_input(grey, "it") == grey
    assert check_input({**GOOD, "url": "x", "interpolation": "bilinear"}, "it") == {
        **GOOD,
        "interpolation": "bilinear",
    }
    assert check_names(["a ", "new\nline"], "it") == ["a", "new\\nline"]
    assert read_hub_config('{"architectures": ["Bert"]}') == read_hub_config("[1]") == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("crop_pct", v) for v in (0, -1, 1.5, float("nan"), "1", True, 1e-9)],
        *[("mean", v) for v in ([float("nan")] * 3, [0.5], "abc", [None] * 3, 0.5)],
        *[("std", v) for v in ([0, 0, 0], [-1, 1, 1], [float("inf")] * 3)],
        *[("input_size", v) for v in ([3, 64], [3, 10**5, 10**5], [0, 64, 64], [65, 64, 32], 64)],
        *[("interpolation", "nearest-ish"), ("crop_mode", 3), ("crop_mode", "dash")],
    ],
)
def test_what_cannot_be_is_named(key, value):
    with pytest.raises(ValueError, match=f"it says {key}=.*which must be "):
        check_input({**GOOD, key: value}, "it")


@pytest.mark.parametrize("names", [None, [], "abc", ["a", ""], ["a", None], [" "], {"a": 1}])
def test_names_that_are_none(names):
    with pytest.raises(ValueError, match="it "):
        check_names(names, "it")


@pytest.mark.parametrize("key", ["model_state_dict", "net", "params", "ema"])
def test_weights_are_found_under_any_key(tmp_path, state, key):
    others = {"optimizer": {"state": {}}, "epoch": 3, "rng": torch.ones(4)}
    torch.save({**others, key: state}, tmp_path / "a.pt")
    found = load_model(TINY, checkpoint=tmp_path / "a.pt").state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_of_several_entries_the_one_that_fits_is_taken(tmp_path, state):
    other = timm.create_model("test_vit.r160_in1k", num_classes=3).state_dict()
    torch.save({"critic": other, "actor": state}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").of(state)
    assert all(torch.equal(found[name], state[name]) for name in state)
    torch.save({"a": state, "b": state}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "several models that fit: a., b")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        (b'{"error": "Not found"}', "it is JSON"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 cut off", "damaged"),
    ],
)
def test_a_failed_download_is_called_what_it_is(tmp_path, content, word):
    (tmp_path / "a.pth").write_bytes(content)
    assert "trust_pickle" not in refused(tmp_path / "a.pth", word)


class Secret:
    """Something beside the weights."""


def test_trust_is_asked_for_where_a_pickle_holds_objects(tmp_path, state):
    torch.save({"state_dict": state, "extra": Secret()}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "holds objects beside the weights", "trust_pickle=true")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: w * torch.nan, "holds NaN or infinite numbers"),
        (lambda w: w.double() * 1e300, "holds NaN or infinite numbers"),
        (lambda w: w.long(), "of type int64"),
        (lambda w: w.to(torch.complex64), "of type complex64"),
        (lambda w: w[..., :1], "in the file and"),
    ],
)
def test_weights_that_are_none_are_refused_before_the_work(tmp_path, state, change, word):
    torch.save({**state, "conv1.0.weight": change(state["conv1.0.weight"])}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "conv1.0.weight", word)


def test_another_network_is_said_to_be_one(tmp_path):
    other = timm.create_model("test_vit.r160_in1k", num_classes=3).state_dict()
    save_file(other, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "another network: it lacks")


def test_names_saved_by_an_editor_are_the_same_names(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    (tmp_path / "a.classes.txt").write_bytes(b"\xef\xbb\xbfhat\r\ncap\r\nk\xc3\xa4fer\r\n")
    assert class_names(load_model(TINY, checkpoint=tmp_path / "a.safetensors")) == (
        *("hat", "cap", "käfer"),
    )
    (tmp_path / "a.classes.txt").write_bytes(b"k\xe4fer\n")
    refused(tmp_path / "a.safetensors", "is no UTF-8")


def test_what_the_file_itself_says_is_checked(tmp_path, state):
    told = json.dumps({"class_names": list("abc"), "config": {**GOOD, "std": [0, 0, 0]}})
    save_file(state, tmp_path / "a.safetensors", {"var_exp": told})
    refused(tmp_path / "a.safetensors", "std=[0, 0, 0], which must be a number above 0")
