"""Hugging Face's classifiers, built small from their configuration and saved."""

import copy
import time

import pytest
import torch

from var_exp.methods import get_method
from var_exp.models import class_names, describe, head_of, input_spec, load_model, network_name
from var_exp.types import ConfigError, MissingWeights

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
CLASSES = torch.tensor([[1, 2], [3, 4]])
LABELS = ["tabby", "lynx", "puma", "ocelot", "lion", "tiger"]


def vit(**options):
    return transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(LABELS)),
        **options,
    )


def swin():
    sizes = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "window_size": 4}
    return transformers.SwinConfig(depths=[2, 2], num_heads=[2, 2], num_labels=6, **sizes)


@pytest.fixture
def saved(tmp_path):
    """Save a small network, and perhaps its image processor, into a folder."""

    def save(config, processor=None):
        torch.manual_seed(0)
        model = transformers.AutoModelForImageClassification.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # so small at first that all classes are alike
                parameter.mul_(4 if parameter.ndim > 1 else 1)
        model.save_pretrained(tmp_path)
        if processor is not None:
            processor.save_pretrained(tmp_path)
        return str(tmp_path), model

    return save


def processor(name, **options):
    return getattr(transformers, name)(**options)


def test_a_saved_network_with_its_labels_and_its_input(saved):
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    size = {"height": 32, "width": 32}
    own = processor("ViTImageProcessor", size=size, image_mean=mean, image_std=std)
    folder, original = saved(vit(), own)
    model = load_model(folder)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(model(IMAGES), original(IMAGES).logits)
    assert class_names(model) == tuple(LABELS)
    assert network_name(model) == folder.rpartition("/")[2]
    spec = input_spec(model)
    assert (spec.size, spec.width, spec.mean, spec.std) == (32, None, tuple(mean), tuple(std))
    assert (spec.crop_mode, spec.crop_pct, spec.interpolation) == ("squash", 1.0, "bilinear")
    seen, _ = describe(model, IMAGES)
    assert (seen.num_classes, seen.head, seen.class_names) == (6, "softmax", tuple(LABELS))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}, (32, 0.875, "center")),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, (384, 1.0, "squash")),
        (
            "CLIPImageProcessor",
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
            (32, 0.8, "center"),
        ),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}},
            (224, 0.875, "center"),
        ),
    ],
)
def test_preprocessing_in_our_words(saved, name, options, said):
    folder, _ = saved(vit(), processor(name, **options))
    spec = input_spec(load_model(folder))
    assert (spec.size, spec.crop_pct, spec.crop_mode) == said
    assert spec.interpolation == "bicubic"


def test_pictures_go_the_way_of_the_processor(saved):
    """The same pixels as Hugging Face's own processor makes of a photograph."""
    import numpy as np
    from PIL import Image

    from var_exp.data.batches import collate
    from var_exp.data.geometry import Geometry
    from var_exp.types import PREDICTED, Sample

    options = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    own = processor("CLIPImageProcessor", **options)
    folder, _ = saved(vit(), own)
    spec = input_spec(load_model(folder))
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    right = torch.as_tensor(np.array(own(picture)["pixel_values"][0]))
    sample = Sample(Geometry.of(spec).picture(picture), torch.tensor([PREDICTED]), None, "a")
    (batch,) = collate([sample], spec)
    assert (batch.images[0] - right).abs().max() < 0.02  # one step of 255 is 0.0145


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 64, "width": 32}},
        {
            **{"size": {"height": 80, "width": 40}, "do_center_crop": True},
            "crop_size": {"height": 64, "width": 32},
        },
    ],
)
def test_pictures_that_are_no_squares_go_the_way_of_the_processor(saved, options):
    import numpy as np
    from PIL import Image

    from var_exp.data.geometry import Geometry

    name = "BitImageProcessor" if "crop_size" in options else "ViTImageProcessor"
    own = processor(name, image_mean=[0.0] * 3, image_std=[1.0] * 3, **options)
    folder, _ = saved(vit(), own)
    spec = input_spec(load_model(folder))
    assert spec.shape == (64, 32)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    right = torch.as_tensor(np.array(own(Image.fromarray(noise))["pixel_values"][0]))
    ours = Geometry.of(spec).picture(Image.fromarray(noise))
    assert (ours - right).abs().max() < 0.02  # one step of 255 is 0.004


def test_crops_that_timm_does_not_know_are_asked_for(saved):
    """Hugging Face resizes the short side whatever the crop's shape."""
    options = {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 32}}
    folder, _ = saved(vit(), processor("CLIPImageProcessor", **options))
    with pytest.raises(ConfigError, match="does not say its input_size"):
        input_spec(load_model(folder))


def test_without_a_processor_the_input_is_asked_for(saved):
    folder, _ = saved(vit())
    with pytest.raises(ConfigError, match="does not say its input_size and mean and std"):
        input_spec(load_model(folder))


def test_a_normalisation_of_another_kind_is_not_guessed(saved):
    folder, _ = saved(vit(), processor("EfficientNetImageProcessor"))
    with pytest.raises(ConfigError, match="does not say its input_size"):
        input_spec(load_model(folder))


def test_independent_labels_by_the_configuration_or_by_option(saved):
    folder, _ = saved(vit(problem_type="multi_label_classification"))
    assert head_of(load_model(folder)) == "sigmoid"
    assert head_of(load_model(folder, head="softmax")) == "softmax"


def test_random_weights_from_the_configuration(saved):
    folder, original = saved(vit())
    model = load_model(folder, pretrained=False)
    assert not torch.equal(model.classifier.weight, original.classifier.weight)
    assert class_names(model) == tuple(LABELS)


def test_what_cannot_be_had_is_said_within_seconds(tmp_path, monkeypatch):
    started = time.perf_counter()
    with pytest.raises(MissingWeights, match=r"is no folder, is not in the local cache"):
        load_model("nobody/nothing")
    assert time.perf_counter() - started < 30
    with pytest.raises(MissingWeights, match="there is no folder"):
        load_model(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="builds no image classifier"):
        load_model(str(tmp_path))


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'var_exp\[hf\]'"):
        load_model("owner/name")


def _derivative(model, x, classes, k):
    leaf = x.clone().requires_grad_()
    logits = model(leaf).logits
    return torch.autograd.grad(logits.gather(1, classes)[:, k].sum(), leaf)[0]


def _stacked(ask):
    return torch.stack([ask(k) for k in (0, 1)], 1)


class _Guide(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, f):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = f(leaf)
        ctx.save_for_backward(leaf, value)
        return value.detach()

    @staticmethod
    def backward(ctx, g):
        leaf, value = ctx.saved_tensors
        with torch.enable_grad():
            return torch.autograd.grad(value, leaf, g, retain_graph=True)[0].clamp_min(0), None


def _guided_gelu(model):
    """The model with every GELU module replaced by one whose backward pass is guided."""
    twin = copy.deepcopy(model)
    found = 0
    for module in twin.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "GELUActivation":
                guided = torch.nn.Module()
                guided.forward = lambda x: _Guide.apply(x, torch.nn.functional.gelu)
                setattr(module, name, guided)
                found += 1
    assert found
    return twin


@pytest.mark.parametrize("config", [vit, swin], ids=["ViT", "Swin"])
def test_float64_loops(saved, config):
    """Gradients, guided backpropagation and integrated gradients against loops in float64."""
    folder, original = saved(config())
    model, exact, images = load_model(folder), original.double(), IMAGES.double()
    gradient = _stacked(lambda k: _derivative(exact, images, CLASSES, k))
    guided = _guided_gelu(exact)
    steps = 8
    nodes, weights = (torch.as_tensor(each) for each in _legendre(steps))
    path = sum(
        w * _stacked(lambda k, t=t: _derivative(exact, t * images, CLASSES, k))
        for t, w in zip(nodes, weights, strict=True)
    )
    rights = {
        "gradient": (get_method("gradient"), gradient),
        "gbp": (get_method("gbp"), _stacked(lambda k: _derivative(guided, images, CLASSES, k))),
        "ig": (get_method("ig", steps=steps), path * images[:, None]),
    }
    for name, (method, right) in rights.items():
        method.check(model, IMAGES[:1])
        found = method.attribute(model, IMAGES, CLASSES)
        assert (found - right).abs().max() <= 1e-5 * right.abs().max(), name


def _legendre(steps):
    """Gauss-Legendre nodes and weights on [0, 1]."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


@pytest.mark.parametrize("config", [vit, swin], ids=["ViT", "Swin"])
def test_deeplift_explains_the_whole_change_and_agrees_in_float64(saved, config):
    folder, original = saved(config())
    model, method = load_model(folder), get_method("deeplift")
    method.check(model, IMAGES[:1])
    found = method.attribute(model, IMAGES, CLASSES)
    with torch.no_grad():
        exact, images = original.double(), IMAGES.double()
        change = (exact(images).logits - exact(0 * images).logits).gather(1, CLASSES)
    sums = found.double().sum((2, 3, 4))
    assert (sums - change).abs().max() <= 1e-5 * change.abs().max()
    right = method.attribute(exact, images, CLASSES)
    assert (found - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.parametrize("config", [vit, swin], ids=["ViT", "Swin"])
def test_deeplift_made_again_by_other_multipliers(saved, config):
    """By the checks of the support matrix: stand-ins for torch's functions, image and baseline."""
    from var_exp.support.findings import examine
    from var_exp.support.networks import subject

    folder, _ = saved(config())
    found = examine("deeplift", subject(load_model(folder), IMAGES[0]))
    assert found.status == "acts", found.reason
    assert found.error <= 1e-5
