"""Weights inside packages: real networks on free photographs, and names of another project."""

from pathlib import Path

import pytest
import skimage
import timm
import torch

import var_exp
from var_exp.data.geometry import Geometry
from var_exp.data.imagenet_classes import imagenet_names
from var_exp.data.pictures import read_picture
from var_exp.models import input_spec, load_model
from var_exp.models.packaged import in_timm_names, packaged_weights
from var_exp.types import MissingWeights

PICTURES = Path(skimage.__file__).parent / "data"
TRUTH = {"chelsea.png": {281, 282, 285}, "coffee.png": {967}}  # a cat, an espresso


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("picture", TRUTH)
def test_free_photographs_are_recognised(number, picture):
    model = load_model(f"efficientnet_lite{number}")
    spec = input_spec(model)
    image = Geometry.of(spec).picture(read_picture(PICTURES / picture))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (spec.mean, spec.std))
    shares = model(((image - mean) / std)[None]).softmax(1)[0]
    right = sum(shares[label].item() for label in TRUTH[picture])
    assert int(shares.argmax()) in TRUTH[picture], imagenet_names()[int(shares.argmax())]
    assert right > 0.5


def test_published_probabilities_of_the_cat():
    """Egyptian cat .60, tiger cat .13, tabby .10, as measured beside the authors' network."""
    why = var_exp.explain("efficientnet_lite2", PICTURES / "chelsea.png", [285, 282, 281])
    assert why.probabilities.tolist() == pytest.approx([0.60, 0.13, 0.10], abs=0.005)


def theirs(network):
    """A network's weights under the names of efficientnet_pytorch, by the order of the pass."""
    state, block = {}, -1
    for name, tensor in network.state_dict().items():
        stage, _, rest = name.partition(".")
        if stage != "blocks":
            outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
            outside |= {"bn2": "_bn1", "classifier": "_fc"}
            state[f"{outside[stage]}.{rest}"] = tensor
            continue
        layer, _, kind = rest.split(".", 2)[2].partition(".")
        first = layer not in ("conv_pwl", "bn3") and (layer, kind) == ("conv_dw", "weight")
        expands = f"blocks.{'.'.join(rest.split('.')[:2])}.conv_pwl.weight" in network.state_dict()
        block += (layer == "conv_pw" if expands else first) and kind == "weight"
        new = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
        new |= {"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
        if not expands:
            new = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv"}
            new |= {"bn2": "_bn2"}
        state[f"_blocks.{block}.{new[layer]}.{kind}"] = tensor
    return state


def test_names_of_the_other_project_become_timms():
    network = timm.create_model("tf_efficientnet_lite0")
    own = network.state_dict()
    found = in_timm_names(theirs(network), own)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert in_timm_names(own, own) == dict(own)  # timm's own names stay


def test_a_file_of_the_other_project_is_a_checkpoint(tmp_path):
    network = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
    file = tmp_path / "theirs.pth"
    torch.save(theirs(network), file)
    loaded = load_model("tf_efficientnet_lite0", checkpoint=file, num_classes=7)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(MissingWeights, match=r"come with the package no-such-weights, .*pip inst"):
        packaged_weights("no-such-weights")
