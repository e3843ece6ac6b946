"""Which models are a chain of attention, and where their tokens are."""

import pytest
import timm
import torch
import torchvision
from torch import nn

import var_exp
from var_exp.engine.attention import Tokens, attention_matrices, find_tokens, mean_of_heads
from var_exp.types import UnsupportedModel


class Block(nn.Module):
    """Attention over all tokens written out by hand, and an MLP."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv, self.mlp = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def weigh(self, matrix):
        return matrix

    def mix(self, tokens):
        return self.mlp(tokens).relu()

    def forward(self, tokens):
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        matrix = self.weigh(torch.softmax(q @ k.transpose(2, 3) / 2, dim=3))
        tokens = tokens + (matrix @ v).transpose(1, 2).flatten(2)
        return tokens + self.mix(tokens)


class Net(nn.Module):
    """Vision transformer of 4 x 4 patches behind two prefix tokens."""

    def __init__(self, block=Block, read=lambda tokens: tokens[:, 0], layers=2):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.prefix = nn.Parameter(torch.randn(1, 2, 8))
        self.places = nn.Parameter(torch.randn(1, 18, 8))
        self.blocks = nn.Sequential(*[block() for _ in range(layers)])
        self.read = read
        self.head = nn.Linear(read(torch.zeros(1, 18, 8)).shape[1], 5)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(images), -1, -1), patches], 1) + self.places
        return self.head(self.read(self.blocks(tokens)))


class Copying(Block):
    def weigh(self, matrix):
        return matrix.to(torch.float64).type_as(matrix).clone().flatten(0, 1).view(matrix.shape)


IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def timm_model(name, **options):
    return timm.create_model(name, num_classes=5, **options)


FAMILIES = {
    "class token": (lambda: timm_model("test_vit", img_size=64), 64, (17, (4, 4), [0])),
    "average": (
        lambda: timm_model("test_vit2", img_size=64),
        64,
        (17, (4, 4), list(range(1, 17))),
    ),
    "relative positions, no prefix": (
        lambda: timm_model("test_vit_relpos", img_size=64),
        64,
        (16, (4, 4), list(range(16))),
    ),
    "registers": (
        lambda: timm_model("vit_small_patch14_reg4_dinov2", img_size=56, depth=2),
        56,
        (21, (4, 4), [0]),
    ),
    "distillation token": (
        lambda: timm_model("deit_tiny_distilled_patch16_224", img_size=64, depth=2),
        64,
        (18, (4, 4), [0, 1]),
    ),
    "masked by relative positions": (
        lambda: timm_model(
            "beit_base_patch16_224", img_size=64, depth=2, embed_dim=48, num_heads=3
        ),
        64,
        (17, (4, 4), list(range(1, 17))),
    ),
    "rotary positions": (
        lambda: timm_model("vit_small_patch16_dinov3", img_size=64, depth=2),
        64,
        (21, (4, 4), list(range(5, 21))),
    ),
    "nn.MultiheadAttention": (
        lambda: torchvision.models.VisionTransformer(64, 16, 2, 3, 48, 96),
        64,
        (17, (4, 4), [0]),
    ),
    "convolutional stem, larger than trained": (
        lambda: var_exp.load_model("critters_vit", pretrained=False),
        128,
        (256, (16, 16), list(range(256))),
    ),
    "written by hand": (Net, 16, (18, (4, 4), [0])),
    "weights cast and copied": (lambda: Net(Copying), 16, (18, (4, 4), [0])),
    "features as shares": (
        lambda: Net(read=lambda tokens: tokens[:, :2].mean(1).softmax(1)),
        16,
        (18, (4, 4), [0, 1]),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_tokens_of_a_known_family(family, mode):
    build, size, (count, grid, read) = FAMILIES[family]
    model = build().eval()
    with mode():
        tokens = find_tokens(model, torch.randn(1, 3, size, size))
    assert tokens == Tokens(count, grid, tuple(read))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_oblong_images():
    model = timm_model("test_vit", dynamic_img_size=True, img_size=64).eval()
    assert find_tokens(model, torch.randn(1, 3, 48, 80)).grid == (3, 5)


def test_a_head_of_zeros_hides_nothing():
    model = timm_model("test_vit", img_size=64).eval()
    nn.init.zeros_(model.head.weight)
    assert find_tokens(model, torch.randn(1, 3, 64, 64)).read == (0,)


class Convolving(Block):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)

    def mix(self, tokens):
        return self.conv(tokens.transpose(1, 2)).transpose(1, 2)


class TalkingHeads(Block):
    def __init__(self):
        super().__init__()
        self.talk = nn.Linear(2, 2)

    def weigh(self, matrix):
        return self.talk(matrix.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Difference(Block):
    def weigh(self, matrix):
        return matrix - 0.5 * matrix.flip(1)


class SideBySide(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = Block(), Block()

    def forward(self, tokens):
        return self.left(tokens) + self.right(tokens)


REFUSED = {
    "cnn": (lambda: timm_model("test_resnet"), 64, "no attention between tokens; use .*gradcam"),
    "gates over channels": (lambda: timm_model("skresnet18"), 64, "no attention between tokens"),
    "mixer": (lambda: timm_model("mixer_s32_224", img_size=64), 64, "no attention between tokens"),
    "windows": (
        lambda: timm_model(
            "swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1, 1, 1)
        ),
        64,
        r"attention of shape \[384, 3, 4, 4\].*use method=attnlrp or method=gradcam",
    ),
    "stages": (
        lambda: timm_model("pit_ti_224", img_size=64),
        64,
        r"shape \[6, 4, .* same N tokens",
    ),
    "attention pooling": (
        lambda: timm_model("test_vit3", img_size=64),
        64,
        r"shape \[6, 3, 1, 17\].* in\s+the pooling",
    ),
    "pooling by one query": (
        lambda: timm_model("cait_xxs24_224", img_size=64, depth=1, depth_token_only=1),
        64,
        "alters its attention matrices before they weigh the values",
    ),
    "talking heads": (lambda: Net(TalkingHeads), 16, "alters its attention matrices"),
    "differences": (lambda: Net(Difference, layers=1), 16, "alters its attention matrices"),
    "convolution between": (lambda: Net(Convolving), 16, "mixes its tokens outside attention"),
    "side by side": (lambda: Net(SideBySide, layers=1), 16, "attention layers side by side"),
    "parallel blocks": (
        lambda: timm_model("vit_small_patch16_18x2_224", img_size=64, depth=2, embed_dim=48),
        64,
        "attention layers side by side",
    ),
    "convolution at the end": (
        lambda: Net(Convolving, lambda tokens: tokens[:, 2:].mean(1), layers=1),
        16,
        r"average of all patch tokens \(conv1d\)",
    ),
    "maximum": (
        lambda: Net(read=lambda tokens: tokens[:, 2:].amax(1)),
        16,
        r"nor as an average of all patch tokens",
    ),
    "average and maximum": (
        lambda: Net(read=lambda tokens: tokens[:, 2:].amax(1) + tokens[:, 2:].mean(1)),
        16,
        r"average of all patch tokens \(amax\)",
    ),
    "own weights for each token": (
        lambda: Net(read=lambda t: t[:, 2:].flatten(1)),
        16,
        "nor as an",
    ),
    "class token and average": (
        lambda: Net(read=lambda tokens: torch.cat([tokens[:, 0], tokens[:, 2:].mean(1)], 1)),
        16,
        "neither from prefix tokens nor as an average",
    ),
    "some patches": (lambda: Net(read=lambda t: t[:, 4:].mean(1)), 16, "nor as an average of all"),
    "nothing after attention": (
        lambda: Net(read=lambda tokens: tokens.detach()[:, 0]),
        16,
        "do not depend on its attention",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_chain_is_refused(case):
    build, size, sentence = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=sentence) as refused:
        find_tokens(build().eval(), torch.randn(1, 3, size, size))
    assert str(refused.value).endswith(".")


class Unfolding(Net):
    def tokens(self, images):
        pixels = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
        patches = pixels.flatten(1, 2).flatten(2) @ self.patches.weight.flatten(1).T
        return torch.cat([self.prefix.expand(len(images), -1, -1), patches], 1)

    def forward(self, images):
        return self.head(self.read(self.blocks(self.tokens(images))))


def test_tokens_without_a_convolution_show_their_places():
    assert find_tokens(Unfolding(), IMAGE).grid == (4, 4)


class NoModules(Unfolding):
    """No module returns tokens; the only map that is found is half as fine as they are."""

    def forward(self, images):
        tokens = self.tokens(images) + self.patches(images[:, :, ::2, ::2]).mean()
        for block in self.blocks:
            tokens = Block.forward(block, tokens)
        return self.head(self.read(tokens))


def test_tokens_that_no_module_returns_have_no_places():
    model = NoModules()
    assert model(IMAGE).shape == (1, 5)
    with pytest.raises(UnsupportedModel, match="the places of the 18 tokens of NoModules"):
        find_tokens(model, IMAGE)


def test_heads_are_averaged_in_single_precision_or_better():
    matrix = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(mean_of_heads(matrix), matrix.mean(1))
    assert mean_of_heads(matrix.bfloat16()).dtype == torch.float32


def test_collected_matrices_are_those_of_the_unfused_layers():
    torch.manual_seed(0)
    model = timm_model("deit_tiny_distilled_patch16_224", img_size=64, depth=3).double().eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with attention_matrices() as found:
        model(images)
    expected = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _m, _i, output: expected.append(output))
    model(images)
    assert len(found) == 3
    for matrix, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(matrix, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_layers_with_a_fast_path_are_seen_where_gradients_are_off(mode):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    tokens = torch.randn(3, 5, 8)
    with mode(), attention_matrices() as found:
        layer(tokens)
    (matrix,) = found
    assert matrix.shape == (3, 2, 5, 5)
    torch.testing.assert_close(matrix.sum(3), torch.ones(3, 2, 5))


def test_maps_leave_out_the_prefix_and_keep_constants():
    relevance = torch.cat([torch.full((2, 3, 2), 9.0), torch.arange(6.0).expand(2, 3, 6)], 2)
    tokens = Tokens(8, (2, 3), (0,))
    same_size = tokens.to_maps(relevance, torch.zeros(2, 3, 2, 3))
    assert torch.equal(same_size[1, 2, 0], torch.arange(6.0).view(2, 3))
    larger = tokens.to_maps(torch.ones(2, 3, 8), torch.zeros(2, 3, 10, 15))
    assert larger.shape == (2, 3, 1, 10, 15)
    torch.testing.assert_close(larger, torch.ones(2, 3, 1, 10, 15))
