"""DeepLIFT of Hugging Face's ViT and Swin against Captum, as far as Captum can say what is right.

Captum's DeepLift has rules for modules of its list (ReLU, ELU, LeakyReLU, Sigmoid, Tanh, Softplus,
max pooling, Softmax); all else gets its plain gradient. That is the rescale rule for affine layers,
but not for layer normalisation, GELU, softmax as a function and the products of attention: on the
whole network its maps do not sum to the change of the logit, so that nothing can be compared. Here
these are taken out, and what stays is compared: patches, positions, the class token, windows,
shifts, merging, residual sums, values and output of attention whose weights are constants, MLPs
with ReLU, pooling and head. What is taken out is tested against other multipliers, in float64, in
`test_hf_models.py`.
"""

import captum.attr
import pytest
import torch
from torch import nn

from var_exp.engine.deeplift.differences import contributions

transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks"),
    pytest.mark.filterwarnings("ignore:.*input Tensor 0 did not already require gradients"),
]

DRAW = torch.Generator().manual_seed(5)
IMAGES = torch.randn(2, 3, 32, 32, generator=DRAW, dtype=torch.float64)
BASELINES = torch.randn(2, 3, 32, 32, generator=DRAW, dtype=torch.float64)
CLASSES = torch.tensor([[1, 2], [3, 4]])
CONFIGURATIONS = {
    "ViT": lambda act: transformers.ViTConfig(
        **{"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "num_labels": 6},
        **{"intermediate_size": 48, "image_size": 32, "patch_size": 8, "hidden_act": act},
    ),
    "Swin": lambda act: transformers.SwinConfig(
        **{"image_size": 32, "patch_size": 2, "embed_dim": 12, "window_size": 4, "num_labels": 6},
        **{"depths": [2, 2], "num_heads": [2, 2], "hidden_act": act},
    ),
}


class Logits(nn.Module):
    def __init__(self, config):
        super().__init__()
        torch.manual_seed(0)
        build = transformers.AutoModelForImageClassification.from_config
        self.net = build(config).double().eval().requires_grad_(False)
        for parameter in self.net.parameters():  # so small at first that all classes are alike
            parameter.mul_(8 if parameter.ndim > 1 else 1)

    def forward(self, x):
        return self.net(x).logits


def without_what_captum_has_no_rule_for(model):
    for name, module in model.named_modules():
        if name.endswith((".query", ".key", ".q_proj", ".k_proj")):
            module.weight.zero_()
            module.bias.zero_()
        for child, part in module.named_children():
            if isinstance(part, nn.LayerNorm):
                setattr(module, child, nn.Identity())
    assert any(isinstance(module, nn.ReLU) for module in model.modules())
    return model


def captum_maps(model):
    found = []
    for k in range(CLASSES.shape[1]):
        deep = captum.attr.DeepLift(model)
        found.append(deep.attribute(IMAGES.clone(), BASELINES, target=CLASSES[:, k]).detach())
    return torch.stack(found, 1)


def changes(model):
    return (model(IMAGES) - model(BASELINES)).gather(1, CLASSES)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_equal_to_captum_where_it_has_rules(name):
    model = without_what_captum_has_no_rule_for(Logits(CONFIGURATIONS[name]("relu")))
    expected = captum_maps(model)
    torch.testing.assert_close(expected.sum((2, 3, 4)), changes(model), rtol=1e-8, atol=1e-10)
    gradients = torch.stack(
        [
            torch.autograd.grad(
                model(leaf := IMAGES.clone().requires_grad_()).gather(1, CLASSES)[:, k].sum(), leaf
            )[0]
            for k in (0, 1)
        ],
        1,
    ) * (IMAGES - BASELINES).unsqueeze(1)
    assert (expected - gradients).norm() > 0.02 * expected.norm()  # the ReLUs do something
    found = contributions(model, IMAGES, BASELINES, CLASSES)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_on_the_whole_network_captum_is_not_complete_and_we_are(name):
    model = Logits(CONFIGURATIONS[name]("gelu"))
    expected = changes(model)
    assert ((captum_maps(model).sum((2, 3, 4)) - expected).abs() > 0.05 * expected.abs()).all()
    found = contributions(model, IMAGES, BASELINES, CLASSES).sum((2, 3, 4))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
