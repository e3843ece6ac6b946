"""Transformer attribution against the published update rule in plain loops, in float64."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import var_exp
from var_exp.methods import get_method
from var_exp.types import UnsupportedModel

CLASSES = torch.tensor([[1, 7, 4], [0, 0, 9]])


class Tiny(nn.Module):
    """A class token and 16 patches through layers of one matrix product each, which it keeps."""

    def __init__(self, layers=3, heads=2, width=6):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, stride=16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.queries = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.values = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.heads, self.head = heads, nn.Linear(width, 10)
        self.kept = []

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(images), -1, -1), patches], 1)
        self.kept = []
        for norm, query, value in zip(self.norms, self.queries, self.values, strict=True):
            seen = norm(x)
            matrix = torch.softmax(self.split(query(seen)) @ self.split(seen).mT, -1)
            self.kept.append(matrix)
            x = x + (matrix @ self.split(value(seen))).transpose(1, 2).flatten(2).tanh()
        return self.head(x[:, 0])


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()


def relevance(score, matrices, rows):
    """Map [4, 4] of one image and class: R <- R + mean_h relu(grad A * A) R, layer by layer."""
    count = matrices[0].shape[-1]
    product = identity = torch.eye(count, dtype=torch.float64)
    for matrix, gradient in zip(
        matrices, torch.autograd.grad(score, matrices, retain_graph=True), strict=True
    ):
        layer = torch.zeros(count, count, dtype=torch.float64)
        for head in range(matrix.shape[1]):
            for i in range(count):
                for j in range(count):
                    both = float(gradient[0, head, i, j]) * float(matrix.detach()[0, head, i, j])
                    layer[i, j] += max(both, 0.0) / matrix.shape[1]
        product = product + layer @ product
    return (product - identity)[rows].mean(0)[-16:].view(4, 4)


def assert_equals_loops(maps, model, images, rows, matrices_of):
    assert maps.shape == (2, 3, 1, 64, 64)
    for b in range(2):
        logits, matrices = matrices_of(model, images[b : b + 1])
        for k in range(3):
            coarse = relevance(logits[0, CLASSES[b, k]], matrices, rows)
            expected = nn.functional.interpolate(coarse[None, None], (64, 64), mode="bilinear")
            assert coarse.max() > 0
            torch.testing.assert_close(
                maps[b, k][None], expected.float(), rtol=1e-5, atol=1e-6 * float(coarse.max())
            )
    assert maps.min() >= 0
    assert not torch.allclose(maps[0, 0], maps[0, 1], rtol=0.1)


def test_equals_loops_on_a_network_written_by_hand(images):
    torch.manual_seed(0)
    model = Tiny().double()
    maps = get_method("transformer_attribution").attribute(model, images, CLASSES)

    def matrices_of(model, image):
        return model(image), model.kept

    assert_equals_loops(maps, model, images, [0], matrices_of)


def hooked(model, image):
    """Logits and attention matrices of a timm model, as the paper's code gets them."""
    seen, handles = [], []
    for block in model.blocks:
        block.attn.fused_attn = False
        keep = lambda _module, _inputs, output: seen.append(output)  # noqa: E731
        handles.append(block.attn.attn_drop.register_forward_hook(keep))
    logits = model(image)
    for handle in handles:
        handle.remove()
    for block in model.blocks:
        block.attn.fused_attn = True
    return logits, seen


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("vit_tiny_patch16_224", [0]),
        ("deit_tiny_distilled_patch16_224", [0, 1]),
        ("vit_wee_patch16_reg1_gap_256", list(range(1, 17))),
    ],
)
def test_equals_loops_over_hooked_layers(images, name, rows):
    torch.manual_seed(0)
    model = timm.create_model(name, img_size=64, depth=2, num_classes=10).double().eval()
    for layer in model.modules():  # away from their first values, which are close to 0
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.1)
    maps = get_method("transformer_attribution").attribute(model, images, CLASSES)
    assert_equals_loops(maps, model, images, rows, hooked)
    unfused = model
    for block in unfused.blocks:
        block.attn.fused_attn = False
    again = get_method("transformer_attribution").attribute(unfused, images, CLASSES)
    torch.testing.assert_close(again, maps)


def test_torchvision_transformer_equals_the_same_weights_in_timm(images):
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=10)
    ours = timm.models.VisionTransformer(64, 16, 3, 10, "token", 48, 2, 3, 2)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    renamed = {
        "class_token": "cls_token",
        "conv_proj": "patch_embed.proj",
        "encoder.pos_embedding": "pos_embed",
        "encoder.layers.encoder_layer_": "blocks.",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "encoder.ln": "norm",
        "heads.head": "head",
    }
    state = {}
    for name, value in theirs.state_dict().items():
        for before, after in renamed.items():
            name = name.replace(before, after)
        state[name] = value
    ours.load_state_dict(state)
    theirs, ours = theirs.double().eval(), ours.double().eval()
    torch.testing.assert_close(theirs(images), ours(images))
    method = get_method("transformer_attribution")
    torch.testing.assert_close(
        method.attribute(theirs, images, CLASSES), method.attribute(ours, images, CLASSES)
    )


def test_works_on_the_shipped_transformer_at_the_size_of_a_grid():
    model = var_exp.load_model("critters_vit")
    images = torch.randn(2, 3, 128, 128)
    maps = get_method("transformer_attribution").attribute(model, images, CLASSES)
    assert maps.shape == (2, 3, 1, 128, 128)
    assert (maps.flatten(2).std(2) > 0).all()


def test_half_precision(images):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=64).eval()
    method = get_method("transformer_attribution")
    maps = method.attribute(model, images.float(), CLASSES)
    half = method.attribute(model.bfloat16(), images.to(torch.bfloat16), CLASSES)
    assert (half - maps).norm() < 0.1 * maps.norm()


def test_a_network_without_attention_is_refused(images):
    model = timm.create_model("test_resnet").double()
    for act in (
        lambda method: method.check(model, images[:1]),
        lambda method: method.attribute(model, images, CLASSES),
    ):
        with pytest.raises(UnsupportedModel, match="ResNet has no attention between tokens"):
            act(get_method("transformer_attribution"))
