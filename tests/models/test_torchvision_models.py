"""torchvision's classifiers by name."""

import pytest
import torch
import torchvision

from var_exp.methods import get_method
from var_exp.models import class_names, head_of, input_spec, load_model, network_name
from var_exp.types import ConfigError, MissingWeights

NAME = "shufflenet_v2_x0_5"
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def own(name=NAME, **options):
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, **options).eval()


def test_a_name_that_timm_does_not_have():
    model = load_model(NAME, pretrained=False)
    spec = input_spec(model)
    assert (spec.size, spec.crop_pct, spec.interpolation) == (224, 224 / 256, "bilinear")
    assert spec.mean == (0.485, 0.456, 0.406)
    names = class_names(model)
    assert names is not None
    assert (len(names), names[281], network_name(model)) == (1000, "tabby", NAME)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_every_name_has_weights_that_say_its_input():
    for name in torchvision.models.list_models(module=torchvision.models):
        published = torchvision.models.get_model_weights(name).DEFAULT
        seen = published.transforms()
        assert len(seen.crop_size) == len(seen.resize_size) == 1
        assert len(published.meta["categories"]) == 1000
        assert seen.interpolation.value in ("bilinear", "bicubic")


def test_a_file_of_weights_with_as_many_classes(tmp_path):
    original = own(num_classes=7)
    torch.save(original.state_dict(), tmp_path / "mine.pth")
    options = {"checkpoint": tmp_path / "mine.pth", "num_classes": 7, "head": "sigmoid"}
    model = load_model("torchvision", name=NAME, **options)
    assert torch.equal(model(IMAGES), original(IMAGES))
    assert class_names(model) is None
    assert head_of(model) == "sigmoid"
    with pytest.raises(MissingWeights, match=r"does not hold the weights .* model.num_classes"):
        load_model(NAME, checkpoint=tmp_path / "mine.pth")


def test_mistakes_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no classifier 'vit_b_61' .did you mean 'vit_b_16'"):
        load_model("torchvision", name="vit_b_61")
    with pytest.raises(ConfigError, match=r"no weights 'V9' of .* choose from DEFAULT, IMAGENET1K"):
        load_model(NAME, weights="V9")
    with pytest.raises(ConfigError, match="cannot build"):
        load_model(NAME, pretrained=False, options={"deep": 3})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("var_exp.models.torchvision_models.urlopen", _no_network)
    with pytest.raises(MissingWeights, match="not in the local cache and cannot be downloaded"):
        load_model(NAME)


def _no_network(*_args, **_options):
    raise OSError("no network")


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small"])
def test_gradients_are_autograd_s(name):
    model, images = load_model("torchvision", name=name, pretrained=False), IMAGES.clone()
    method = get_method("gradient")
    method.check(model, images)
    found = method.attribute(model, images, torch.tensor([[3]]))[:, 0]
    leaf = images.requires_grad_()
    (right,) = torch.autograd.grad(model(leaf)[0, 3], leaf)
    torch.testing.assert_close(found, right)
