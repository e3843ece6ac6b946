"""Networks whose tokens do not simply keep the grid of the patch embedding: right, or refused."""

import gc
import weakref

import pytest
import timm
import torch
from changed_cells import farthest_answer
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import nn
from torch.nn.functional import interpolate, pad

from var_exp import get_method
from var_exp.models.targets import Target, find_target
from var_exp.types import UnsupportedModel


def timm_model(name, **options):
    return timm.create_model(name, num_classes=10, **options)


def mvit():
    cfg = MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=24)
    return MultiScaleVit(cfg, img_size=(128, 128), num_classes=10)


def crossvit():
    options = {"img_size": 64, "img_scale": (1.0, 1.0), "patch_size": (8, 16)}
    return timm_model("crossvit_tiny_240", **options)


FAMILIES = {
    "hiera, unrolled until it is merged": (
        lambda: timm_model(
            "hiera_tiny_224", img_size=(128, 128), embed_dim=24, stages=(1, 1, 1, 1)
        ),
        128,
        Target("blocks.3", "tokens", (4, 4)),
    ),
    "mvit 2, pooled": (mvit, 128, Target("norm", "tokens", (4, 4))),
    "maxvit, in windows and grids": (
        lambda: timm_model("maxvit_rmlp_pico_rw_256", img_size=128, depths=(1, 1, 1, 1)),
        128,
        Target("norm", "channels_first", (4, 4)),
    ),
    "eva 2": (
        lambda: timm_model("eva02_tiny_patch14_224", img_size=56, depth=2),
        56,
        Target("blocks.1", "tokens", (4, 4), prefix=1),
    ),
    "twins": (
        lambda: timm_model("twins_pcpvt_small", img_size=128, depths=(1, 1, 1, 1)),
        128,
        Target("norm", "tokens", (4, 4)),
    ),
    "pit, a class and a distillation token": (
        lambda: timm_model("pit_ti_distilled_224", img_size=128),
        128,
        Target("transformers.2.blocks.3.norm1", "tokens", (4, 4), prefix=2),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_stage_of_a_family_answers_where_it_lies(family):
    build, side, expected = FAMILIES[family]
    torch.manual_seed(0)
    model = build().eval().requires_grad_(False)
    image = torch.randn(1, 3, side, side)
    found = find_target(model, image)
    assert found == expected
    assert farthest_answer(model, found, image) <= 1


def test_levit_is_taken_where_its_tokens_differ_and_refused_where_they_do_not():
    torch.manual_seed(0)
    model = timm_model("levit_128s").eval().requires_grad_(False)
    image = torch.randn(1, 3, 224, 224)
    with pytest.raises(UnsupportedModel, match=r"'stages' .* do not change most where"):
        find_target(model, image)  # its first values let no token see more of a place than another
    with torch.no_grad():  # trained, every block acts and near places count most
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.ones_(module.weight)
            if hasattr(module, "attention_biases"):
                offsets = module.attention_bias_idxs[0]  # of the first query from each key
                side = round(len(offsets) ** 0.5)
                away = torch.arange(len(offsets)) // side + torch.arange(len(offsets)) % side
                module.attention_biases[:, offsets] = -3.0 * away
                module.attention_bias_cache.clear()
    found = find_target(model, image)
    assert found == Target("stages", "tokens", (4, 4))
    assert farthest_answer(model, found, image) <= 1


def test_each_of_two_branches_has_its_own_grid():
    torch.manual_seed(0)
    model = crossvit().eval().requires_grad_(False)
    image = torch.randn(1, 3, 64, 64)
    found = find_target(model, image)
    count = {401: 1, 65: 1, 17: 1}
    assert found.prefix == count[found.grid[0] * found.grid[1] + 1]
    assert farthest_answer(model, found, image) <= 1


class Stages(nn.Module):
    """Tokens, 8 x 8, merged 2 x 2 by a linear layer to 4 x 4; no convolution between.

    Args:
        between: From the tokens [B, 16, 48] of the second stage to those that it works on.
    """

    def __init__(self, between=lambda tokens: tokens):
        super().__init__()
        torch.manual_seed(3)
        self.merge = nn.Linear(96, 48)
        self.stem = nn.Conv2d(3, 24, 4, 4)
        self.one, self.two = (
            nn.TransformerEncoderLayer(d, 2, d, 0.0, batch_first=True, norm_first=True)
            for d in (24, 48)
        )
        self.between, self.head = between, nn.Linear(48, 5)

    def forward(self, images):
        tokens = self.one(self.stem(images).flatten(2).mT)
        squares = tokens.unflatten(1, (4, 2, 4, 2)).transpose(2, 3).flatten(3).flatten(1, 2)
        return self.head(self.two(self.between(self.merge(squares.flatten(2)))).mean(1))


IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def test_merged_tokens_are_followed():
    model = Stages().eval()
    found = find_target(model, IMAGE)
    assert found == Target("two", "tokens", (4, 4))
    assert farthest_answer(model, found, IMAGE) == 0


def test_gradcam_of_merged_tokens_equals_a_loop():
    model, classes = Stages().eval().double(), torch.tensor([[1, 4]])
    image = IMAGE.double()
    maps = get_method("gradcam").attribute(model, image, classes)
    kept = []
    handle = model.two.register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = model(image)
    handle.remove()
    for k, c in enumerate(classes[0].tolist()):
        (gradient,) = torch.autograd.grad(logits[0, c], kept[0], retain_graph=True)
        coarse = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
        for t in range(16):
            coarse[0, 0, t // 4, t % 4] = kept[0][0, t] @ gradient[0].mean(0)
        expected = interpolate(coarse.detach(), (32, 32), mode="bilinear")[0]
        torch.testing.assert_close(maps[0, k].double(), expected, rtol=1e-5, atol=1e-7)


def test_tokens_behind_which_a_class_token_stands():
    model = Stages(lambda t: torch.cat([t, torch.ones_like(t[:, :1])], 1)).eval()
    found = find_target(model, IMAGE)
    assert (found.grid, found.prefix) == ((4, 4), 0)
    assert farthest_answer(model, found, IMAGE) == 0


ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(2))
HOPELESS = {
    "another order": lambda t: t[:, ORDER],
    "in windows": lambda t: t.unflatten(1, (2, 2, 2, 2)).transpose(2, 3).flatten(1, 4)[:, ORDER],
    "pruned": lambda t: t[:, :11],
    "chosen by their content": lambda t: t.gather(
        1, t.norm(dim=2).topk(9, 1).indices[:, :, None].expand(-1, -1, t.shape[2])
    ),
    "all mixed": lambda t: t.mean(1, keepdim=True) + 0.01 * t[:, ORDER],
    "pooled to others": lambda t: torch.softmax(t[:, :6] @ t.mT, -1) @ t,
}


@pytest.mark.parametrize("what", HOPELESS)
def test_tokens_without_a_place_are_refused_and_no_earlier_stage_taken(what):
    model = Stages(HOPELESS[what]).eval()
    with pytest.raises(UnsupportedModel, match=r"at layer 'two' .* in the image|'two' .*places"):
        find_target(model, IMAGE)
    with pytest.raises(UnsupportedModel, match=r"name an earlier layer with layer=…"):
        get_method("gradcam").check(model, IMAGE)
    assert find_target(model, IMAGE, "one") == Target("one", "tokens", (8, 8))


@pytest.mark.parametrize("seed", range(6))
def test_an_unknown_order_is_never_accepted(seed):
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    with pytest.raises(UnsupportedModel):
        find_target(Stages(lambda t: t[:, order]).eval(), IMAGE)


class Padding(nn.Module):
    """A patch embedding of 16 x 16 pixels that pads the image first, and mean-pools its tokens."""

    def __init__(self, sides):
        super().__init__()
        torch.manual_seed(0)
        self.sides, self.embed = sides, nn.Conv2d(3, 16, 16, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, images):
        tokens = self.embed(pad((images - 0.1) / 0.3, self.sides)).flatten(2).mT
        return self.head(self.norm(tokens).mean(1))


@pytest.mark.parametrize(
    ("sides", "frame"),
    [((0, 10, 0, 12), (0, 0, 112, 160)), ((5, 5, 6, 6), (-6, -5, 112, 160))],
)
def test_cells_cover_the_padded_image(sides, frame):
    model, image = Padding(sides).eval(), torch.randn(1, 3, 100, 150)
    assert find_target(model, image) == Target("norm", "tokens", (7, 10), frame=frame)
    method, classes = get_method("gradcam"), torch.tensor([[2]])
    fine = interpolate(method.coarse(model, image, classes), (112, 160), mode="bilinear")
    top, left = -frame[0], -frame[1]
    expected = fine[:, :, None, top : top + 100, left : left + 150]
    torch.testing.assert_close(method.attribute(model, image, classes), expected)


def test_a_padding_vit_of_timm():
    options = {"depth": 2, "dynamic_img_size": True, "dynamic_img_pad": True}
    model = timm_model("vit_tiny_patch16_224", **options).eval()
    found = find_target(model, torch.randn(1, 3, 70, 120))
    assert found == Target("blocks.1.norm1", "tokens", (5, 8), 1, frame=(0, 0, 80, 128))
    maps = get_method("attention_rollout").attribute(
        model, torch.randn(1, 3, 70, 120), torch.tensor([[0]])
    )
    assert maps.shape == (1, 1, 1, 70, 120)


def test_transformers_swin_and_vit():
    transformers = pytest.importorskip("transformers")

    class Logits(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images).logits

    torch.manual_seed(0)
    swin = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], num_labels=5
    )
    vit = transformers.ViTConfig(
        image_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=5,
    )
    image = torch.randn(1, 3, 64, 64)
    for inner, grid, prefix in (
        (transformers.SwinForImageClassification(swin), (8, 8), 0),
        (transformers.ViTForImageClassification(vit), (4, 4), 1),
    ):
        model = Logits(inner).eval().requires_grad_(False)
        found = find_target(model, image)
        assert (found.layout, found.grid, found.prefix) == ("tokens", grid, prefix)
        assert farthest_answer(model, found, image) <= 1


def test_a_block_that_returns_its_tokens_beside_something_else():
    class Beside(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, tokens):
            mixed = self.inner(tokens)
            return tokens + mixed, mixed.norm()

    class Unpacked(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, tokens):
            return self.block(tokens)[0]

    model = Stages()
    model.two = Unpacked(Beside(model.two))
    found = find_target(model.eval(), IMAGE)
    assert found.name == "two"  # the sum, not only what is added
    named = find_target(model, IMAGE, "two.block")
    assert farthest_answer(model, named, IMAGE) == 0
    method, classes = get_method("gradcam", layer="two.block"), torch.tensor([[1]])
    same = get_method("gradcam").attribute(model, IMAGE, classes)
    assert torch.equal(method.attribute(model, IMAGE, classes), same)


def pictures_shown(model, image, layer=None):
    shown = []
    handle = model.register_forward_pre_hook(lambda _m, inputs: shown.append(len(inputs[0])))
    find_target(model, image, layer)
    handle.remove()
    return sum(shown)


def test_what_is_known_costs_nothing_until_the_network_or_the_size_changes():
    model = timm_model("vit_tiny_patch16_224", img_size=128, depth=2, dynamic_img_size=True).eval()
    image = torch.randn(1, 3, 128, 128)
    searched = 6
    assert pictures_shown(model, image) == searched
    assert pictures_shown(model, torch.randn(1, 3, 128, 128)) == 0
    assert pictures_shown(model, image, "blocks.0") == searched
    assert pictures_shown(model, image) == 0
    larger = torch.randn(1, 3, 160, 160)
    assert pictures_shown(model, larger) == searched
    assert find_target(model, larger).grid == (10, 10)
    with torch.no_grad():
        model.blocks[0].norm1.weight.mul_(2)
    assert pictures_shown(model, larger) == searched
    model.blocks = model.blocks[:1]
    assert find_target(model, larger).name == "blocks.0.norm1"


def test_the_target_does_not_depend_on_the_image():
    model = Stages().eval()
    found = {find_target(Stages().eval(), x) for x in (IMAGE, IMAGE * 0, IMAGE * 1e3)}
    assert found == {find_target(model, IMAGE)}


def test_a_network_that_is_gone_is_forgotten():
    model = Stages().eval()
    find_target(model, IMAGE)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
