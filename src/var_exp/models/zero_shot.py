"""Classes in words: an image tower and, as its head, the text embeddings of prompts.

    y_c(x) = s · <v(x) / |v(x)|, t_c> + b,    t_c = the mean of the normalised text embeddings of
                                              the prompts of class c, normalised again

with the scale s and bias b that the network learnt (Radford et al. 2021, arXiv 2103.00020: CLIP,
whose classes compete in a softmax; Zhai et al. 2023, arXiv 2303.15343: SigLIP, each with a sigmoid
of its own). The text tower runs once; then the head is a linear layer with fixed weights, and every
method explains it like any other: why "a tabby cat" and not "a lynx".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from var_exp.models.declared import Head, declare
from var_exp.models.hf_models import check_at_hand, declare_preprocessing, import_transformers
from var_exp.models.hub import in_short
from var_exp.types import ConfigError

Prompts = Sequence[str] | Mapping[str, str | Sequence[str]]


class ZeroShot(nn.Module):
    """An image tower whose normalised features meet a linear head.

    Args:
        tower: From images [B, C, H, W] to features [B, D].
        text: [N, D], one normalised embedding for each class.
        scale: Of the cosines.
        bias: Added to every logit.
    """

    def __init__(
        self, tower: nn.Module, text: Float[Tensor, "N D"], scale: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(text.shape[1], text.shape[0], device=text.device, dtype=text.dtype)
        with torch.no_grad():
            self.head.weight.copy_(scale * text)
            self.head.bias.fill_(bias)
        self.num_classes = len(text)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        """Logits of the classes."""
        logits: Tensor = self.head(normalize(self.tower(images), dim=1))
        return logits


class ImageTower(nn.Module):
    """The vision half of a CLIP or SigLIP network of transformers; features before normalisation.

    Args:
        vision_model: Returns an object with `pooler_output`.
        projection: Into the space that images and texts share; None where pooling does that.
    """

    def __init__(self, vision_model: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.projection = nn.Identity() if projection is None else projection

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Features of the pictures."""
        features: Tensor = self.projection(self.vision_model(pixel_values=images).pooler_output)
        return features


def zero_shot(
    name: str,
    prompts: Prompts,
    templates: Sequence[str] = ("{}",),
    pretrained: bool = True,
    head: Head | None = None,
    options: Mapping[str, Any] | None = None,
) -> ZeroShot:
    """A classifier whose classes are prompts, from a CLIP or SigLIP network of transformers.

    Args:
        name: On the hub, such as "openai/clip-vit-base-patch32", or a folder that was saved.
        prompts: The classes: a list of prompts, or class name -> prompt or several prompts, whose
            embeddings are averaged.
        templates: Each prompt is put into each of them in place of {}, such as "a photo of a {}.";
            averaged as well.
        pretrained: False builds the network from its configuration, with random weights.
        head: "softmax" or "sigmoid"; None takes sigmoid where the network was trained so (SigLIP).
        options: Further arguments of `from_pretrained`.

    Raises:
        ConfigError: no prompts, transformers is not installed, or this is no such network.
        MissingWeights: name is neither a folder nor to be had.
    """
    asked = _asked(prompts, templates)
    transformers = import_transformers()
    check_at_hand(name, transformers.AutoModel)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        if pretrained:
            whole = transformers.AutoModel.from_pretrained(name, **(options or {}))
        else:
            config = transformers.AutoConfig.from_pretrained(name)
            whole = transformers.AutoModel.from_config(config, **(options or {}))
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ConfigError(
            f"transformers builds no network with a tokenizer from '{name}' ({in_short(error)}); "
            "name a CLIP or SigLIP network."
        ) from error
    if not hasattr(whole, "get_text_features") or not hasattr(whole, "vision_model"):
        raise ConfigError(
            f"'{name}' is a {type(whole).__name__} without an image and a text tower; name a CLIP "
            "or SigLIP network."
        )
    whole.eval().requires_grad_(False)
    learnt_bias = getattr(whole, "logit_bias", None)
    model = ZeroShot(
        ImageTower(whole.vision_model, getattr(whole, "visual_projection", None)),
        text_embeddings(whole, tokenizer, list(asked.values())),
        scale=float(whole.logit_scale.exp()),
        bias=0.0 if learnt_bias is None else float(learnt_bias),
    )
    declare(
        model,
        head=head or ("softmax" if learnt_bias is None else "sigmoid"),
        class_names=list(asked),
        name=Path(name).name,
    )
    declare_preprocessing(model, name)
    return model.eval().requires_grad_(False)


def text_embeddings(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[str]]
) -> Float[Tensor, "N D"]:
    """The normalised mean of the normalised embeddings of each class's prompts.

    Args:
        model: CLIP or SigLIP network of transformers.
        tokenizer: Its own.
        prompts: Of each class.
    """
    found = []
    length = model.config.text_config.max_position_embeddings
    # SigLIP was trained on texts filled up to its length, without a mask
    padding = "max_length" if getattr(model, "logit_bias", None) is not None else True
    for each in prompts:
        tokens = tokenizer(
            list(each), return_tensors="pt", padding=padding, truncation=True, max_length=length
        )
        known = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
        with torch.no_grad():
            output = model.get_text_features(**known)
        features: Tensor = getattr(output, "pooler_output", output)
        found.append(normalize(normalize(features, dim=1).mean(0), dim=0))
    return torch.stack(found)


def _asked(prompts: Prompts, templates: Sequence[str]) -> dict[str, list[str]]:
    """Class name -> all its prompts.

    Raises:
        ConfigError: fewer than two classes, one without a prompt or twice, a template without {}.
    """
    named = prompts.items() if isinstance(prompts, Mapping) else [(each, each) for each in prompts]
    if any("{}" not in template for template in templates) or not templates:
        raise ConfigError(
            f"each of the templates must hold {{}} for the prompt, got {list(templates)}; write "
            "model.templates=['a photo of a {}.']."
        )
    asked: dict[str, list[str]] = {}
    for name, own in named:
        texts = [own] if isinstance(own, str) else list(own)
        if str(name) in asked or not texts:
            raise ConfigError(
                f"class '{name}' is named twice, or has no prompt; give each its own."
            )
        asked[str(name)] = [
            template.replace("{}", str(text)) for text in texts for template in templates
        ]
    if len(asked) < 2:
        raise ConfigError(
            f"two classes must compete, got {len(asked)} prompts; write "
            "model.prompts=['a tabby cat','a lynx']."
        )
    return asked
