"""Classes in words: prompts are the columns of an explicit linear head, and explained as such."""

import json

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, normalize

from var_exp import VAR
from var_exp.methods import get_method
from var_exp.models import class_names, head_of, input_spec, load_model, zero_shot
from var_exp.types import ConfigError, MissingWeights, UnsupportedModel

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = ["a tabby cat", "a lynx", "a puma", "an ocelot", "a tiger"]
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 400,
    "max_position_embeddings": 24,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def tokenizer():
    """Letters as tokens, with CLIP's special ones."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[])


@pytest.fixture(params=["CLIP", "SigLIP"])
def saved(request, tmp_path):
    """Folder of a small network with its tokenizer and processor; the network; its name."""
    torch.manual_seed(0)
    if request.param == "CLIP":
        config = transformers.CLIPConfig(
            text_config={**TEXT, "projection_dim": 8},
            vision_config={**VISION, "projection_dim": 8},
            projection_dim=8,
        )
        model = transformers.CLIPModel(config)
    else:
        config = transformers.SiglipConfig(text_config=TEXT, vision_config=VISION)
        model = transformers.SiglipModel(config)
        with torch.no_grad():
            model.logit_bias.fill_(-3)
            model.logit_scale.fill_(1.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    model.eval().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    size = {"shortest_edge": 32}
    crop = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size=size, crop_size=crop).save_pretrained(tmp_path)
    return str(tmp_path), model, request.param


def test_logits_are_those_of_the_network_itself(saved):
    """As the two-tower network computes them from pictures and texts together."""
    folder, original, kind = saved
    tokens = tokenizer()(
        PROMPTS,
        return_tensors="pt",
        padding="max_length" if kind == "SigLIP" else True,
        max_length=24,
        truncation=True,
    )
    known = {"input_ids": tokens["input_ids"]}
    if "attention_mask" in tokens:
        known["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        right = original(pixel_values=IMAGES, **known).logits_per_image
        found = zero_shot(folder, PROMPTS)(IMAGES)
    assert right.std() > 0.01
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_what_a_zero_shot_network_says_of_itself(saved):
    folder, _, kind = saved
    model = load_model("zero_shot", name=folder, prompts=PROMPTS)
    assert class_names(model) == tuple(PROMPTS)
    assert head_of(model) == {"CLIP": "softmax", "SigLIP": "sigmoid"}[kind]
    assert head_of(zero_shot(folder, PROMPTS, head="softmax")) == "softmax"
    assert input_spec(model).size == 32
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not torch.equal(zero_shot(folder, PROMPTS, pretrained=False)(IMAGES), model(IMAGES))


class Explicit(nn.Module):
    """The same image tower with one column of the head after another."""

    def __init__(self, model):
        super().__init__()
        self.tower, self.weight, self.bias = model.tower, model.head.weight, model.head.bias

    def forward(self, x):
        return linear(normalize(self.tower(x), dim=1), self.weight, self.bias)


REFUSED = {
    ("CLIP", "gbp"): "activation",  # its GELU is written as a product, x sigmoid(1.702 x)
    (
        "SigLIP",
        "gradcam",
    ): "do not change most where the image is changed",  # random weights
    ("SigLIP", "attnlrp"): "supported for plain self-attention",  # pooling by a query of its own
}


@pytest.mark.parametrize("alias", ["gradient", "gbp", "ig", "gradcam", "occlusion", "attnlrp"])
def test_five_prompts_compete_as_the_five_columns_of_the_head_bit_for_bit(saved, alias):
    folder, _, kind = saved
    model, classes = zero_shot(folder, PROMPTS), torch.arange(5).expand(2, 5)
    method = get_method(alias)
    if (kind, alias) in REFUSED:
        with pytest.raises(UnsupportedModel, match=REFUSED[kind, alias]):
            method.check(model, IMAGES[:1])
        return
    method.check(model, IMAGES[:1])
    maps = method.attribute(model, IMAGES, classes)
    explicit = method.attribute(Explicit(model), IMAGES, classes)
    assert torch.equal(maps, explicit)
    assert torch.equal(VAR()(maps), VAR()(explicit))
    assert maps.abs().sum() > 0


def test_several_prompts_of_a_class_are_averaged(saved):
    folder, original, _ = saved
    cats = ["a cat", "a kitten"]
    one = [zero_shot(folder, [each, "a dog"]).head.weight[0] for each in cats]
    scale = float(original.logit_scale.exp().detach())
    model = zero_shot(folder, {"cat": cats, "dog": "a dog"})
    right = scale * normalize(sum(one) / scale / 2, dim=0)
    torch.testing.assert_close(model.head.weight[0], right, rtol=1e-5, atol=1e-6)
    assert class_names(model) == ("cat", "dog")
    filled = zero_shot(folder, {"cat": ["cat", "kitten"], "dog": "dog"}, templates=["a {}"])
    torch.testing.assert_close(filled.head.weight, model.head.weight)


def test_what_cannot_compete_is_refused(saved, tmp_path):
    folder, _, _ = saved
    with pytest.raises(ConfigError, match="two classes must compete, got 1 prompts"):
        zero_shot(folder, ["a cat"])
    with pytest.raises(ConfigError, match="class 'a cat' is named twice"):
        zero_shot(folder, ["a cat", "a cat"])
    with pytest.raises(ConfigError, match=r"templates must hold \{\} for the prompt"):
        zero_shot(folder, PROMPTS, templates=["a photo"])
    with pytest.raises(MissingWeights, match="there is no folder"):
        zero_shot(str(tmp_path / "none"), PROMPTS)


def test_a_network_of_one_tower_is_refused(tmp_path):
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vit"
    with pytest.raises(ConfigError, match="CLIP or SigLIP network"):
        zero_shot(str(tmp_path), PROMPTS)


def test_an_image_tower_of_timm_with_text_embeddings_of_ones_own():
    """The towers of CLIP in timm have no texts: any embeddings are the head."""
    import timm

    from var_exp.models.zero_shot import ZeroShot

    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 2}
    tower = timm.create_model("vit_base_patch16_clip_224.openai", num_classes=12, **sizes)
    text = normalize(torch.randn(5, 12), dim=1)
    model = ZeroShot(tower, text, scale=50.0).eval()
    right = 50 * normalize(tower.eval()(IMAGES), dim=1) @ text.T
    torch.testing.assert_close(model(IMAGES), right)
    method, classes = get_method("gradcam"), torch.arange(5).expand(2, 5)
    method.check(model, IMAGES[:1])
    assert VAR()(method.attribute(model, IMAGES, classes)).shape == (2, 5, 1, 32, 32)
