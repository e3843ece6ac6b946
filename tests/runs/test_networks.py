"""Any name of timm's on the command line, and what runs call their networks."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from var_exp.conf_files import conf_dir
from var_exp.runs.jobs import find_jobs, label_jobs
from var_exp.runs.networks import network_label, network_names, offer_networks


def test_a_name_of_timms_composes_like_an_alias():
    offer_networks(["method=gbp", "model=resnet50,resnet18.a1_in1k, tf_efficientnet_lite0"])
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for name in ("resnet18.a1_in1k", "tf_efficientnet_lite0"):
            cfg = compose("evaluate", overrides=[f"model={name}", "data.root=x", "+model.x=1"])
            assert (cfg.model.name, cfg.model.pretrained) == (name, True)
            assert cfg.data._target_.endswith("ImageNet")
    assert {"resnet50", "critters_cnn", "tf_efficientnet_lite0"} <= set(network_names())


@pytest.mark.parametrize(
    ("choice", "name", "label"),
    [
        ("resnet50", "resnet50.tv_in1k", "resnet50"),  # the alias's own
        ("resnet50", None, "resnet50"),
        ("resnet50", "tf_efficientnet_lite0", "tf_efficientnet_lite0"),
        ("resnet18.a1_in1k", "resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("mine", None, "mine"),
    ],
)
def test_runs_are_called_by_their_network(choice, name, label):
    assert network_label(choice, name) == label


def test_a_sweep_over_names_of_one_alias_shows_each(tmp_path):
    for number, name in enumerate(("resnet18", "vit_tiny_patch16_224")):
        hydra = tmp_path / f"{number}" / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text(f"- model=resnet50\n- ++model.name={name}\n")
        choices = {"hydra": {"runtime": {"choices": {"model": "resnet50", "method": "gbp"}}}}
        (hydra / "hydra.yaml").write_text(OmegaConf.to_yaml(choices))
        (hydra / "config.yaml").write_text(f"model:\n  name: {name}\n")
    labels = label_jobs(find_jobs(tmp_path))
    assert labels == [{"model": "resnet18"}, {"model": "vit_tiny_patch16_224"}]
