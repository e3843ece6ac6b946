"""Find the last spatial feature map of a model by watching one forward pass.

Nothing is decided by class names. The target is the last module's output, in the order of
execution, that the logits depend on at spatial positions. In a ViT that reads out its class token
this is the normalisation before the last attention, since the patch tokens of anything later are
thrown away; with average pooling it is the last output.

How the output lies over the image is proposed by its shape (`models.watched_pass`) and then has to
show
itself: the cell over a changed patch must change most, or its neighbour (`models.locality`). Tokens
that were pruned, put in an unknown order, resampled or mixed until none stands for a place are
refused, and never replaced by an earlier layer whose places are known.
"""

from typing import TypeAlias

from torch import Tensor, nn

from var_exp.models.grids import Grid
from var_exp.models.kept import kept
from var_exp.models.locality import NEAR, localities, locality
from var_exp.models.spatial import Layout, Target
from var_exp.models.watched_outputs import Output, Trace
from var_exp.models.watched_pass import trace
from var_exp.types import ConfigError, Images, UnsupportedModel

__all__ = ["Layout", "Target", "find_stages", "find_target", "find_token_grid", "token_places"]

_Last: TypeAlias = tuple[Output, list[Target], Target | None]
"""An output, the ways to read it, and the one that the watched pass has shown to be right."""


def find_target(model: nn.Module, image: Images, layer: str | None = None) -> Target:
    """Find the layer for class activation maps, and where its spatial positions are.

    Costs one forward pass of six pictures and a backward pass through the layers after the one
    found; where these leave a doubt one of six more, of tokens one of up to 17; and nothing until
    the model, its weights or the image's shape are others. The first pass answers the other
    functions, too.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.
        layer: Dotted module name to use in place of the one found.

    Raises:
        ConfigError: the model has no module of that name.
        UnsupportedModel: no output, or not that of `layer`, is a spatial map behind the logits
            whose places could be established; or the model returns no logits.
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise ConfigError(
            f"{type(model).__name__} has no module '{layer}'; "
            "take a name from model.named_modules()."
        )
    return kept(model, _about(image, layer), lambda: _find(model, image, layer))


def find_stages(model: nn.Module, image: Images, count: int) -> list[Target]:
    """Find the last layer of each resolution, behind which all passes that is known of the picture.

    As `find_target` without the layer, which the first of them is where nothing passes beside it;
    inside a residual block, or one branch of two, is no stage's end. Costs as that.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W].
        count: Most resolutions, from the coarsest on.

    Raises:
        UnsupportedModel: there is but one, or the places of one could not be established.
    """

    def find() -> list[Target]:
        watched = trace(model, image)
        found: dict[Grid, Target] = {}
        for output in reversed(watched.outputs):
            placed = watched.place(output)
            if placed is None or placed[0].grid in found or not watched.all_passes(output):
                continue
            marks = output.marks(watched.logits)
            if marks is None or not placed[0].to_map(marks).isnan().any():
                continue  # the class token alone is read
            local = _settled(model, image, watched, output, placed)
            if local is None or not watched.frame_known:
                raise _not_local(type(model).__name__, output)
            found[local.grid] = local
            if len(found) == count:
                break
        if len(found) < min(count, 2):
            raise UnsupportedModel(
                f"the features of {type(model).__name__} through which all of the picture passes "
                "have fewer than two resolutions; use method=layercam."
            )
        return list(found.values())

    return kept(model, _about(image, "stages", count), find)


def find_token_grid(model: nn.Module, image: Images, watched: Trace, count: int) -> Target | None:
    """Find where tokens lie that keep their number and order, by those that answer best.

    As `find_target` without the layer: where attention has mixed the tokens, the last of them may
    answer anywhere, though each is the one that the patch embedding made.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.
        watched: A pass of this model and such pictures.
        count: Of the tokens, those without a place included.

    Returns:
        A layer of so many tokens that answers where the image is changed; None where there is none.
    """
    for output in watched.outputs:
        if len(output.shape) == 3 and output.shape[1] == count:
            placed = watched.place(output)
            if placed is not None:
                local = _settled(model, image, watched, output, placed)
                if local is not None:
                    return local
    return None


def token_places(model: nn.Module, image: Images) -> dict[int, Target | None]:
    """For each number of tokens that modules return, where they lie in the image.

    None where they are in an unknown order, or where less than a quarter of the outputs of so many
    tokens answers where the image is changed: then nothing is said about their places.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.
    """
    return kept(model, _about(image, "places of tokens"), lambda: _find_token_places(model, image))


def _about(image: Images, *asked: object) -> tuple[object, ...]:
    """A question about pictures of one kind."""
    return ("places", *asked, image.shape[1:], image.dtype, image.device)


def _find(model: nn.Module, image: Images, layer: str | None) -> Target:
    name = type(model).__name__
    if layer is None:
        found = _watched(model, image)[1]
        if isinstance(found, str):
            raise UnsupportedModel(found)
    else:
        found = _last(name, trace(model, image, layer))
    output, ways, shown = found
    local = shown or _local(model, image, ways)
    if local is None:
        raise _not_local(name, output)
    return local


def _watched(model: nn.Module, image: Images) -> tuple[Trace, _Last | str]:
    """What one pass showed of the tokens, and its last map or why there is none."""

    def find() -> tuple[Trace, _Last | str]:
        watched = trace(model, image)
        try:
            found: _Last | str = _last(type(model).__name__, watched)
        except UnsupportedModel as error:
            found = str(error)
        return watched.of_tokens(), found

    return kept(model, _about(image, "watched pass"), find)


def _last(name: str, watched: Trace) -> _Last:
    """The last output that is a map and that the logits depend on at its positions."""
    unplaced: list[Output] = []
    for output in reversed(watched.outputs):
        marks = output.marks(watched.logits)
        if marks is None:
            continue
        if len(marks) != len(watched.logits):
            raise _no_place(name, output, "they come before the pictures, [N, B, D]")
        placed = watched.place(output)
        if placed is None:
            if _has_positions(marks):
                unplaced.append(output)
            continue
        target, away = placed
        if target.to_map(marks).isnan().any():
            if not watched.frame_known:
                raise _no_place(name, output, "the model pads, crops or warps the picture")
            if watched.with_places(output, target):
                raise _no_place(name, output, "tokens of another scale stand beside them")
            _check_same_tokens(name, output, target, unplaced)
            ways = watched.alike(output, target)
            return output.without_graph(), ways, watched.local(output, ways, away)
    if unplaced:
        raise _no_place(name, unplaced[0])
    raise UnsupportedModel(
        f"no spatial feature map that the logits depend on was found in {name}"
        + (
            f" at layer '{watched.layer}'; leave layer out"
            if watched.layer
            else "; name one with layer=…"
        )
        + ", or use another method."
    )


def _find_token_places(model: nn.Module, image: Images) -> dict[int, Target | None]:
    watched, _ = _watched(model, image)
    found: dict[int, Target | None] = {}
    for count in {output.shape[1] for output in watched.outputs}:
        placed = [watched.place(output) for output in watched.outputs if output.kind == (count,)]
        known = [each for each in placed if each is not None]
        local = [target for target, away in known if bool((away <= NEAR).all())]
        found[count] = local[0] if 4 * len(local) >= len(placed) else None
    return found


def _settled(
    model: nn.Module, image: Images, watched: Trace, output: Output, placed: tuple[Target, Tensor]
) -> Target | None:
    """The way to read an output, as `Trace.place` has it, by this pass or else patch by patch."""
    target, away = placed
    ways = watched.alike(output, target)
    return watched.local(output, ways, away) or _local(model, image, ways)


def _local(model: nn.Module, image: Images, targets: list[Target]) -> Target | None:
    """The first way to read a layer in which it answers one patch after another.

    Of what `Trace.local` leaves in doubt. Among few tokens a neighbour proves nothing.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W].
        targets: The ways, the likeliest first.
    """
    side = min(targets[0].grid)
    if targets[0].layout != "tokens":
        cells = locality(model, image, targets[0])
        return targets[0] if cells is None or cells <= max(NEAR, (side - 1) // 2) else None
    near = NEAR if side > 3 else 0
    for target, cells in zip(targets, localities(model, image, targets), strict=True):
        if cells is not None and cells <= near:
            return target
    return None


def _check_same_tokens(name: str, output: Output, target: Target, unplaced: list[Output]) -> None:
    """Refuse a map behind which the logits read other tokens, whose places are not known."""
    h, w = target.grid
    counts = {h * w, target.prefix, output.shape[1] if target.layout == "tokens" else h * w}
    for later in unplaced:
        if not counts.intersection(later.shape[1:]):
            raise _no_place(name, later)


def _has_positions(marks: Tensor) -> bool:
    """Whether several positions of an output that is not placed are read, not one vector."""
    if marks.ndim not in (3, 4) or (marks.ndim == 3 and marks.shape[2] == 1):
        return False
    positions = marks[0].isnan().any(1 if marks.ndim == 3 else 0)
    return int(positions.sum()) > 1


def _no_place(name: str, output: Output, why: str = "") -> UnsupportedModel:
    return UnsupportedModel(
        f"the places of the features of {name} at layer '{output.name}' "
        f"({list(output.shape[1:])}) in the image are not known{f' ({why})' if why else ''}; "
        "name an earlier layer with layer=…, or use another method."
    )


def _not_local(name: str, output: Output) -> UnsupportedModel:
    return UnsupportedModel(
        f"the features of {name} at layer '{output.name}' ({list(output.shape[1:])}) do not change "
        "most where the image is changed, so that their places could not be established; "
        "name an earlier layer with layer=…, or use another method."
    )
