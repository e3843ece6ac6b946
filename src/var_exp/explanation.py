"""What an explanation holds: a sentence, maps, shares, a picture; see `var_exp.explain`."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from var_exp.refine.var import VAR
from var_exp.report.panel_picture import panel_figure
from var_exp.report.panels import Panel, answer
from var_exp.types import ConfigError
from var_exp.variants import BASE

_QUICK = {"compress_level": 1}
"""Of a PNG file: a tenth of the time of Matplotlib's default, and little larger."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a network decides for one class and not for another, on one picture.

    All tensors are on the CPU. K classes compete, in the order in which they were asked for.

    Attributes:
        classes: Numbers of the K classes.
        names: And their names.
        probabilities: [K], of each class: its share of the softmax over all classes of the network,
            or the sigmoid of its logit, as the network's head says.
        base: [K, c, H, W], the method's own maps; raw and signed.
        maps: [K, c, H, W], refined.
        shares: [K, H, W], who has how much of each pixel; sums to 1 over the classes.
        shared: [H, W], what speaks for all K classes and is won by none; see `shared_evidence`.
        image: [3, H, W] in 0..1, what the network saw.
        network: Name of the network.
        method: Name of the attribution method.
        refine: Name of the refiner.
        picture: Name of the picture; "" when it has none.
        competition: Settings of the competition that the shares come from.
        competes_itself: Whether the refiner is that competition.
        region: [H, W], where a network that classifies pixels was asked; None for all of it.
    """

    classes: list[int]
    names: list[str]
    probabilities: Float[Tensor, " K"]
    base: Float[Tensor, "K c H W"]
    maps: Float[Tensor, "K _ H W"]
    shares: Float[Tensor, "K H W"]
    shared: Float[Tensor, "H W"]
    image: Float[Tensor, "3 H W"]
    network: str
    method: str
    refine: str
    picture: str
    competition: VAR
    competes_itself: bool = True
    region: Bool[Tensor, "H W"] | None = None

    def __str__(self) -> str:
        """One sentence: which class rather than which others, and by what this was found."""
        return f"{self.answer} ({self.network}, {self.method}, {self.refine})"

    @property
    def answer(self) -> str:
        """Which class rather than which others, the likeliest first."""
        return answer(self.names, self.probabilities.tolist())

    def figure(self) -> Figure:
        """The picture, and for each class its map before and after the competition."""
        return panel_figure(self._panel())

    def save(self, path: str | Path, dpi: int = 150) -> Path:
        """Write the figure; the ending decides the format (.png, .pdf, .svg, .jpg).

        Raises:
            ConfigError: an ending that is no format of pictures.
        """
        figure = self.figure()
        quick: dict[str, Any] = (
            {"pil_kwargs": _QUICK} if Path(path).suffix.lower() == ".png" else {}
        )
        try:
            figure.savefig(path, dpi=dpi, **quick)
        except ValueError as error:
            raise ConfigError(
                f"'{path}' does not end in a format of pictures; save it as .png, .pdf or .svg."
            ) from error
        return Path(path)

    def _repr_png_(self) -> bytes:
        """The picture, where the explanation is the last line of a notebook's cell."""
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=110, pil_kwargs=_QUICK)
        return buffer.getvalue()

    def _panel(self) -> Panel:
        return Panel(
            sample_id=self.picture or "the picture",
            image=(self.image * 255).round().to(torch.uint8),
            class_names=self.names,
            asked=len(self.names),
            maps={BASE: self.base, self.refine: self.maps},
            probabilities=self.probabilities.tolist(),
            source=f"{self.network} · {self.method}",
            competition=self.competition,
            competitions={self.refine: self.competition} if self.competes_itself else {},
            shared=self.shared,
            within=self.region,
        )
