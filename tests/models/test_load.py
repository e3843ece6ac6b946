import os
import socket
import time

import huggingface_hub
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from var_exp.conf_files import conf_dir
from var_exp.models import input_spec, list_models, load_model
from var_exp.types import ConfigError, MissingWeights

ALIASES = [
    "convnext_base",
    "critters_cnn",
    "critters_vit",
    "deit_s",
    "densenet121",
    "resnet50",
    "resnext50",
    "swin_b",
    "vgg16",
    "vit_b16",
    "wide_resnet50_2",
]
TINY = "test_resnet.r160_in1k"  # 0.5 M parameters


def timm_weights(seed=0):
    torch.manual_seed(seed)
    return timm.create_model(TINY).state_dict()


def same_weights(model, state):
    mine = model.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[k], state[k]) for k in state)


def test_aliases_are_those_of_the_contract():
    packaged = [f"efficientnet_lite{size}" for size in range(3)]
    assert list_models() == sorted([*ALIASES, *packaged])


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_builds_frozen_in_eval_mode(alias):
    with torch.device("meta"):
        model = load_model(alias, pretrained=False)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.num_classes == (16 if alias.startswith("critters") else 1000)
    spec = input_spec(model)
    assert spec.size == (64 if alias.startswith("critters") else 224)


@pytest.mark.parametrize("alias", [a for a in ALIASES if not a.startswith("critters")])
def test_every_name_in_the_files_has_published_weights(alias):
    node = yaml.safe_load((conf_dir() / "model" / f"{alias}.yaml").read_text())
    assert node["name"] in timm.list_pretrained()
    assert timm.get_pretrained_cfg(node["name"]).hf_hub_id


@pytest.mark.parametrize("alias", ["critters_cnn", "critters_vit"])
def test_shipped_models_take_one_picture_and_a_grid(alias):
    model = load_model(alias)
    images = torch.randn(2, 3, 64, 64)
    assert model(images).shape == (2, 16)
    assert model(images.repeat(1, 1, 2, 2)).shape == (2, 16)
    spec = input_spec(model)
    assert (spec.size, spec.mean, spec.std) == (64, (0.5,) * 3, (0.25,) * 3)
    assert not spec.fixed_size


@pytest.mark.parametrize("alias", ["critters_cnn", "critters_vit"])
def test_shipped_files_are_small(alias):
    node = yaml.safe_load((conf_dir() / "model" / f"{alias}.yaml").read_text())
    from var_exp.models import load

    assert (load._SHIPPED / node["shipped"]).stat().st_size <= 3e6


def test_random_weights_differ_from_the_shipped_ones():
    shipped, random = load_model("critters_cnn"), load_model("critters_cnn", pretrained=False)
    assert not same_weights(random, shipped.state_dict())


@pytest.mark.parametrize(
    ("file", "wrap"),
    [
        ("plain.safetensors", None),
        ("plain.pt", lambda state: state),
        ("nested.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("model.pt", lambda state: {"model": state}),
        ("lightning.ckpt", lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}}),
    ],
)
def test_checkpoint_formats(tmp_path, file, wrap):
    state = timm_weights()
    path = tmp_path / file
    save_file(state, path) if wrap is None else torch.save(wrap(state), path)
    for pretrained in (True, False):  # an explicit file comes before everything else
        assert same_weights(load_model(TINY, pretrained, path), state)
    assert same_weights(load_model(TINY, checkpoint=str(path)), state)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trapped",)


def not_there(path):
    pass


def garbage(path):
    path.write_bytes(b"not weights at all")


def empty(path):
    path.touch()


def other_shape(path):
    torch.save({**timm_weights(), "conv1.0.weight": torch.zeros(3, 3, 3, 3)}, path)


def one_missing(path):
    state = timm_weights()
    state.pop("conv1.0.weight")
    torch.save(state, path)


def one_too_many(path):
    torch.save({**timm_weights(), "more": torch.zeros(1)}, path)


def no_tensors(path):
    torch.save({"state_dict": 3}, path)


def a_list(path):
    torch.save([torch.zeros(2)], path)


def code(path):
    torch.save(Trap(), path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "write",
    [not_there, garbage, empty, other_shape, one_missing, one_too_many, no_tensors, a_list, code],
)
def test_bad_checkpoint_is_named_in_one_sentence(tmp_path, monkeypatch, write, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights.{suffix}"
    write(path)
    with pytest.raises(MissingWeights, match=r"weights\.") as caught:
        load_model(TINY, checkpoint=path)
    text = str(caught.value)
    assert "\n" not in text
    assert "model.checkpoint" in text
    assert len(text) < 700
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("place", "called"),
    [
        ("nowhere.pt", "does not exist"),
        (".", "it is a folder"),
        ("/dev/zero", "it is a device or a pipe, no file"),
    ],
)
@pytest.mark.parametrize("network", [TINY, "vit_b_16"])
def test_what_is_no_file_is_called_what_it_is(tmp_path, monkeypatch, place, called, network):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingWeights, match=called):
        load_model(network, checkpoint=place)


def test_a_cached_file_is_used_without_asking_the_hub(tmp_path, monkeypatch):
    state = timm_weights()
    save_file(state, tmp_path / "model.safetensors")
    asked = []

    def cached(repository, filename):
        asked.append((repository, filename))
        return str(tmp_path / filename)

    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    assert same_weights(load_model(TINY), state)
    assert asked == [(f"timm/{TINY}", "model.safetensors")]


@pytest.fixture
def silent_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("network", ["refuses", pytest.param("hangs", marks=pytest.mark.slow)])
def test_no_network_and_no_file_ends_within_seconds(monkeypatch, silent_port, network):
    port = 9 if network == "refuses" else silent_port
    url = f"http://127.0.0.1:{port}/model.safetensors"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda *_: url)
    started = time.monotonic()
    with pytest.raises(MissingWeights, match=r"resnet50") as caught:
        load_model("resnet50")
    assert time.monotonic() - started < 10
    for way_out in ("model.checkpoint=", "model.pretrained=false", "model=critters_cnn"):
        assert way_out in str(caught.value)
    assert "\n" not in str(caught.value)


def test_published_weights_with_another_number_of_classes_are_refused():
    with pytest.raises(MissingWeights, match="for 1000 classes, got num_classes=7"):
        load_model("resnet50", num_classes=7)


def test_a_model_without_published_weights_is_refused():
    with pytest.raises(MissingWeights, match="no weights of gcvit_tiny are published"):
        load_model("gcvit_tiny")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("critters_cn", "critters_cnn"),
        ("resnet50.tv_in1", "resnet50.tv_in1k"),
        ("vit_b1", "vit_b16"),
    ],
)
def test_unknown_name_gets_a_suggestion(wrong, right):
    with pytest.raises(ConfigError, match=f"'{wrong}' .did you mean '{right}'"):
        load_model(wrong)


def test_unknown_options_are_refused():
    with pytest.raises(ConfigError, match="there is no option 'chekpoint'"):
        load_model("resnet50", chekpoint="x")
    with pytest.raises(ConfigError, match=r"options .*depht"):
        load_model(TINY, pretrained=False, options={"depht": 3})


def test_input_spec_of_published_models():
    assert input_spec(timm.create_model("resnet50.tv_in1k")).interpolation == "bilinear"
    vit = load_model("deit_s", pretrained=False)
    assert input_spec(vit).fixed_size
    assert input_spec(vit).crop_pct == 0.9
    flexible = load_model("deit_s", pretrained=False, options={"dynamic_img_size": True})
    assert not input_spec(flexible).fixed_size


def test_input_of_a_foreign_network_is_unknown():
    with pytest.raises(ConfigError, match="the input of Linear is unknown"):
        input_spec(nn.Linear(2, 2))


def test_channels_last_changes_the_memory_and_nothing_else():
    images = torch.randn(2, 3, 64, 64)
    plain, last = (load_model("critters_cnn", channels_last=choice) for choice in (False, True))
    assert last.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images), plain(images), rtol=1e-4, atol=1e-4)
