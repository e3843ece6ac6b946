"""Options and reach of AttnLRP; `tests/engine` has its rules against loops and a replica."""

import pytest
import torch
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer

from var_exp.methods import get_method
from var_exp.methods.attnlrp import AttnLRP
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7], [3, 3]])
SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_classes": 10}


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return VisionTransformer(**SHAPE, depth=2, num_heads=2).double().eval()


def test_a_block_without_influence_leaves_the_patch_embedding(vit, images):
    """Mean of x w + b through a linear head, with gamma 0: pixel times its gradient."""
    model = VisionTransformer(**SHAPE, depth=1, num_heads=2, global_pool="avg", final_norm=False)
    model = model.double().eval()
    for layer in (model.blocks[0].attn.proj, model.blocks[0].mlp.fc2):
        layer.weight.data.zero_()
    maps = get_method("attnlrp", gamma_linear=0, gamma_convolution=0).attribute(
        model, images, CLASSES
    )
    expected = get_method("input_x_gradient").attribute(model, images, CLASSES)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-7)


def test_each_gamma_acts_on_its_layers(vit, images):
    def maps(linear, convolution):
        method = get_method("attnlrp", gamma_linear=linear, gamma_convolution=convolution)
        return method.attribute(vit, images, CLASSES)

    first, other = maps(0.05, 0), maps(0.05, 0.5)
    patches = [m.unfold(3, 8, 8).unfold(4, 8, 8).sum((2, 5, 6)) for m in (first, other)]
    assert not torch.allclose(first, other, rtol=0.1)
    assert (maps(0.5, 0) - first).norm() > 0.1 * first.norm()
    assert patches[0].shape == (2, 2, 4, 4)


def test_a_network_without_attention_is_refused(images):
    model = MlpMixer(**SHAPE, num_blocks=1).double().eval()
    with pytest.raises(UnsupportedModel, match="MlpMixer has no attention; use method=lrp"):
        get_method("attnlrp").check(model, images[:1])
    get_method("lrp").check(model, images[:1])


@pytest.mark.parametrize("name", ["gamma_linear", "gamma_convolution"])
def test_gamma_must_not_be_negative(name):
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -0.1; set {name}=0"):
        AttnLRP(**{name: -0.1})


def test_bfloat16(vit, images):
    maps = get_method("attnlrp").attribute(vit, images, CLASSES)
    half = get_method("attnlrp").attribute(vit.bfloat16(), images.bfloat16(), CLASSES)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(half.flatten(), maps.flatten(), dim=0) > 0.9
