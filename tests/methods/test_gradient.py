"""Plain gradient and input x gradient against Captum."""

import torch
import torchvision
from captum.attr import InputXGradient, Saliency

from var_exp.methods import get_method


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
        expected = InputXGradient(model).attribute(leaf, target=chosen).detach()
        assert torch.equal(products[:, k], expected)
