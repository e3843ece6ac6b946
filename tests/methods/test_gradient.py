"""Plain gradient and input x gradient against Captum, and the softmax against closed forms."""

import pytest
import torch
import torchvision
from captum.attr import InputXGradient as CaptumInputXGradient
from captum.attr import Saliency
from PIL import Image
from torch import nn

from var_exp.methods import get_method
from var_exp.methods.gradient import Gradient, InputXGradient
from var_exp.methods.guided_backprop import DeconvNet, GuidedBackprop

CLASSES = torch.tensor([[0, 3], [2, 2]])


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GELU(), nn.Flatten(), nn.Linear(216, 5), nn.Softplus()
    ).double()


def test_equal_to_captum_on_a_resnet():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    images, classes = torch.randn(2, 3, 48, 48), torch.tensor([[3, 5], [999, 0]])
    gradients = get_method("gradient").attribute(model, images, classes)
    products = get_method("input_x_gradient").attribute(model, images, classes)
    for k, chosen in enumerate(classes.T):
        leaf = images.clone().requires_grad_()
        expected = Saliency(model).attribute(leaf, target=chosen, abs=False)
        assert torch.equal(gradients[:, k], expected)
        expected = CaptumInputXGradient(model).attribute(leaf, target=chosen).detach()
        assert torch.equal(products[:, k], expected)


@pytest.mark.parametrize("score", ["probability", "log_probability"])
@pytest.mark.parametrize("alias", ["gradient", "input_x_gradient"])
def test_softmax_scores_contrast_the_gradients_of_the_logits(net, images, alias, score):
    """d log p_c = d y_c - Σ_n p_n d y_n, and d p_c = p_c d log p_c."""
    every = torch.arange(5).expand(2, 5)
    of_logits = get_method(alias).attribute(net, images, every).double()
    probabilities = net(images).detach().softmax(1)
    expected = of_logits - torch.einsum("bn,bnchw->bchw", probabilities, of_logits)[:, None]
    if score == "probability":
        expected = expected * probabilities[..., None, None, None]
    maps = get_method(alias, score=score).attribute(net, images, CLASSES)
    for b in range(2):
        torch.testing.assert_close(maps[b], expected[b, CLASSES[b]].float(), rtol=1e-4, atol=1e-7)


def test_equal_to_captum_on_a_model_that_ends_in_a_softmax(net, images):
    maps = get_method("softmax_gradient").attribute(net, images, CLASSES)
    behind = nn.Sequential(net, nn.Softmax(dim=1))
    for k, chosen in enumerate(CLASSES.T):
        leaf = images.clone().requires_grad_()
        expected = Saliency(behind).attribute(leaf, target=chosen, abs=False)
        torch.testing.assert_close(maps[:, k], expected.float())


@pytest.mark.parametrize("method", [Gradient, InputXGradient, GuidedBackprop, DeconvNet])
def test_a_misspelt_score_is_refused(method):
    with pytest.raises(ValueError, match="got 'softmax'"):
        method(score="softmax")


def test_a_picture_in_place_of_its_tensor_is_a_sentence():
    picture = Image.new("RGB", (8, 8))
    method = get_method("gradient")
    with pytest.raises(ValueError, match=r"must be a normalised tensor .* got Image; var_exp"):
        method.check(torch.nn.Identity(), picture)
    with pytest.raises(ValueError, match=r"must be tensors, got Image and Tensor"):
        method.attribute(torch.nn.Identity(), picture, torch.tensor([[0]]))
