"""How a classifier is trained: soft targets, AdamW, one cycle of the learning rate."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from var_exp.models.checkpoint import ABOUT, about
from var_exp.types import InputSpec

LOSS = "held_out/loss"
ACCURACY = "held_out/accuracy"


class Classifier(LightningModule):
    """A network with its loss and optimiser; batches are images in [0, 1] and shares of classes.

    Args:
        model: Gives the logits of normalised images.
        spec: Mean and standard deviation that images are normalised with.
        learning_rate: Highest of the cycle.
        weight_decay: Of all parameters with more than one dimension; biases and scales have none.
        warmup: Share of the steps until the learning rate is highest.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: InputSpec,
        learning_rate: float,
        weight_decay: float = 0.05,
        warmup: float = 0.15,
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
        """Logits of images in [0, 1]."""
        normalised = (images - self.mean) / self.std
        # channels_last makes convolutions a quarter faster on CPUs
        logits: Tensor = self.model(normalised.contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Cross entropy with the shares of the classes, which is shown in the progress bar."""
        images, targets = batch
        loss = cross_entropy(self(images), targets)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]  # Lightning's union has no such plain form
        """AdamW under one cycle over all steps of the trainer."""
        parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=self.warmup,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class TunedClassifier(Classifier):
    """A classifier that is also measured on held-out pictures, and whose checkpoints know names.

    Args:
        class_names: Name of each class, by number.
        arguments: Those of `Classifier`.
    """

    def __init__(self, *arguments: Any, class_names: Sequence[str]) -> None:
        super().__init__(*arguments)
        self.class_names = class_names

    def validation_step(self, batch: tuple[Tensor, Tensor] | None, batch_index: int) -> None:
        """Cross entropy, and the share of the pictures whose class comes first.

        None stands for a batch of which nothing could be read, which Lightning skips in training.
        """
        if batch is None:
            return
        images, targets = batch
        logits = self(images).float()
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        for name, value in ((LOSS, cross_entropy(logits, targets)), (ACCURACY, right)):
            self.log(name, value, prog_bar=True, batch_size=len(images), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the file say what goes with its weights."""
        checkpoint[ABOUT] = about(self.model, self.class_names)
