"""One sample as people look at it: the maps of its competing classes, and what is said of them.

One colour scale (`SCALE_RULE`) for all maps of a sample, symmetric about zero, so that colours
compare between classes and between base and refined map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from var_exp.refine.var import VAR
from var_exp.report.overlays import note, scale_of, won
from var_exp.variants import BASE

SCALE_RULE = (
    "Red speaks for the class, blue against it, no colour is zero. One scale for all maps of a "
    "picture, base and refined: full colour is the 98 % quantile of the non-zero |base map| over "
    "its classes, opacity follows |map| to the power 0.6. What competition leaves is a share of "
    "the map and so fainter. An empty map keeps nothing: the class's share exceeds 1/K + τ "
    "nowhere. A class that wins only by losing least, where every class has evidence against it, "
    "has no evidence for it; that is said and not drawn. Where sizes |map| compete, as in the "
    "paper's mode, strong evidence against a class wins as well, and stays blue. A line outlines "
    "the true region of the class."
)
_LITTLE = 0.01  # of the pixels
_NAMED = 5  # most classes in one phrase


@dataclass(frozen=True)
class Panel:
    """One sample with the maps of all K competing classes under several variants.

    Attributes:
        sample_id: Name of the sample.
        image: As people should see it, not normalised.
        class_names: The K competing classes, those asked about first.
        asked: A, how many of them were asked about and scored.
        maps: Per variant one raw signed map per class, of any number of channels; the base first.
        regions: True region of each class asked about; None when the data does not say.
        predicted: What the model says, in words; None to leave it out.
        probabilities: What the model gives each competing class, of all it knows; may be empty.
        source: What made the maps, such as "resnet50 · gradcam"; "" to leave it out.
        kind: Why this sample is shown, such as "best"; "" to leave it out.
        metric: The measure of the scores.
        scores: Per variant the score of each class asked about, NaN when undefined.
        competition: Settings of the class competition that is shown; None when none is.
        competitions: Those of the variants that are class competitions themselves.
        shared: What speaks for all K classes and is won by none, >= 0; None to leave it out.
        within: The region of the image that the classes were asked about; None for all of it.

    Raises:
        ValueError: no base map, or shapes that do not fit the image and the classes.
    """

    sample_id: str
    image: UInt8[Tensor, "3 H W"]
    class_names: Sequence[str]
    asked: int
    maps: Mapping[str, Float[Tensor, "K _ H W"]]
    regions: Bool[Tensor, "A H W"] | None = None
    predicted: str | None = None
    probabilities: Sequence[float] = ()
    source: str = ""
    kind: str = ""
    metric: str = ""
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    competition: VAR | None = None
    competitions: Mapping[str, VAR] = field(default_factory=dict)
    shared: Float[Tensor, "H W"] | None = None
    within: Bool[Tensor, "H W"] | None = None

    def __post_init__(self) -> None:
        if BASE not in self.maps or not self.class_names:
            raise ValueError("a panel must have a base map and a class; give maps={'base': …}.")
        size = tuple(self.image.shape[1:])
        expected = (len(self.class_names), *size)
        for name, maps in self.maps.items():
            if (len(maps), *maps.shape[2:]) != expected:
                raise ValueError(
                    f"'{name}' of panel {self.sample_id} must have the classes and size {expected} "
                    f"of its panel, got {(len(maps), *maps.shape[2:])}; resize the maps first."
                )
        if self.regions is not None and tuple(self.regions.shape) != (self.asked, *size):
            raise ValueError(
                f"regions of panel {self.sample_id} must have the shape {(self.asked, *size)}, got "
                f"{tuple(self.regions.shape)}; give one per class asked about."
            )
        if self.shared is not None and tuple(self.shared.shape) != size:
            raise ValueError(
                f"the shared evidence of panel {self.sample_id} must have the size {size} of its "
                f"image, got {tuple(self.shared.shape)}; resize it first."
            )
        if self.probabilities and len(self.probabilities) != len(self.class_names):
            raise ValueError(
                f"panel {self.sample_id} must have a probability for each of its "
                f"{len(self.class_names)} classes, got {len(self.probabilities)}; give all or none."
            )

    @cached_property
    def scale(self) -> float:
        """The |base map| that gets full colour in all pictures of this sample; 0 for empty maps."""
        return scale_of(self.flat(BASE))

    @property
    def competes(self) -> bool:
        """Whether there is a competition to show."""
        return self.competition is not None and len(self.class_names) > 1

    def flat(self, variant: str) -> Float[Tensor, "K H W"]:
        """Maps of one variant with their channels summed, as people see them."""
        return self.maps[variant].sum(1)

    def drawn(self, variant: str) -> Float[Tensor, "K H W"]:
        """The same as they are drawn: without what is won by losing least, no evidence for it."""
        values = self.flat(variant)
        return values.clamp_min(0) if self.loses_least(variant) else values

    def loses_least(self, variant: str) -> bool:
        """Whether classes of a variant can win by losing least: signed values compete in it."""
        return variant in self.competitions and self.competitions[variant].magnitude == "signed"

    def keeps_against(self, variant: str) -> bool:
        """Whether a class of a variant can win by evidence against it: sizes compete in it."""
        return variant in self.competitions and self.competitions[variant].magnitude == "abs"

    def remark(self, variant: str, column: int) -> str:
        """What the eye could mistake in one map, in words; mostly "".

        "empty map", "not finite in n pixels", "no evidence for it", how much it wins by losing
        least, and that it keeps so little that nobody would see it.
        """
        values = self.flat(variant)[column]
        if (said := note(values)) or variant not in self.competitions:
            return said
        least = (values < 0).float().mean().item() if self.loses_least(variant) else 0.0
        if self.loses_least(variant) and not (values > 0).any():
            return f"no evidence for it; loses least in {100 * least:.0f} % of the pixels"
        kept = (self.drawn(variant)[column] != 0).float().mean().item()
        little = [f"keeps {100 * kept:.1g} % of the pixels"] if kept < _LITTLE else []
        loses = [f"loses least in {100 * least:.0f} %"] if least >= _LITTLE else []
        return "; ".join(little + loses)

    def region(self, column: int) -> Bool[Tensor, "H W"] | None:
        """True region of one of the competing classes, where it is known."""
        known = self.regions is not None and column < self.asked
        return self.regions[column] if self.regions is not None and known else None

    def shares(self) -> Float[Tensor, "K H W"]:
        """Class distribution at every pixel, the mean over the channels that compete.

        Raises:
            ValueError: the classes do not compete.
        """
        if self.competition is None:
            raise ValueError(f"the classes of panel {self.sample_id} do not compete.")
        return self.competition.distribution(self.maps[BASE][None])[0].mean(1)

    def won(self) -> Float[Tensor, "K H W"]:
        """Strength with which each class wins each pixel, 0 to 1; see `overlays.won`.

        Raises:
            ValueError: the classes do not compete.
        """
        return won(self.shares(), self.flat(BASE), self.scale)

    def meaning(self, variant: str) -> str:
        """What the maps of one variant show, in a few words."""
        if variant == BASE:
            return "what speaks for each class (red) and against it (blue)"
        if variant in self.competitions:
            return "what each class keeps when they compete"
        return "refined"

    @property
    def told(self) -> bool:
        """Whether the sentence says the prediction already."""
        return bool(self.probabilities) and (self.predicted or "").startswith(
            f"{self.class_names[0]} ("
        )

    @property
    def sentence(self) -> str:
        """What is explained, such as "Egyptian cat 0.60 rather than tabby 0.10".

        Where several classes are known to be in the picture, as in a grid, it is a question.
        """
        if self.asked > 1 and self.regions is not None:
            return f"{_either(_numbered(self.class_names, self.probabilities))}?"
        if self.asked > 1 and self.probabilities:
            return answer(self.class_names, self.probabilities)
        first, *others = _numbered(self.class_names, self.probabilities)
        return f"{first} rather than {_either(others)}" if others else first


def answer(names: Sequence[str], probabilities: Sequence[float]) -> str:
    """Which class rather than which others, the likeliest first.

    Examples:
        >>> answer(["tabby", "Egyptian cat"], [0.103, 0.602])
        'Egyptian cat 0.60 rather than tabby 0.10'
    """
    order = sorted(range(len(names)), key=lambda k: -probabilities[k])  # stable
    first, *others = _numbered([names[k] for k in order], [probabilities[k] for k in order])
    return f"{first} rather than {_either(others)}"


def _numbered(names: Sequence[str], probabilities: Sequence[float]) -> list[str]:
    """Names with their probabilities, where these are known."""
    if not probabilities:
        return list(names)
    return [f"{n} {probability(p)}" for n, p in zip(names, probabilities, strict=True)]


def probability(number: float) -> str:
    """A probability in two digits; what is too small for them is not called zero."""
    return "<0.01" if 0 < number < 0.005 else f"{number:.2f}"


def _either(names: Sequence[str]) -> str:
    """The names in one phrase, "a, b or c"; many of them end in "or 7 others"."""
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
