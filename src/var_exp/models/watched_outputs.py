"""What a watched forward pass showed (`models.watched_pass`), and how its outputs lie then."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from var_exp.models.grids import Grid
from var_exp.models.locality import ENOUGH, NEAR, Patch, cells_away, is_local
from var_exp.models.spatial import Target

PICTURES = 6
"""One, and five with patches changed."""

PAIRS = 2
"""Changed pictures, the first ones, with two patches each; the others have many."""

_SELECTIVE = 1e-6  # share of its larger change, squared, below which a token did not answer


@dataclass(frozen=True)
class Output:
    """What one run of a module returned.

    Attributes:
        name: Of the module.
        shape: Of the output.
        edge: Where it enters the graph, also when a later layer overwrites it; None without one.
        targets: All ways in which it may lie, the likeliest first; none where it is no map, or the
            grid of its tokens is not known.
        changes: For each of these, how much its cells changed in each picture, [5, h, w].
        tokens: How much each of its tokens did, [5, N]; None where it has none.
    """

    name: str
    shape: torch.Size
    edge: GradientEdge | None
    targets: list[Target]
    changes: list[Tensor]
    tokens: Tensor | None = None

    @property
    def kind(self) -> tuple[int, ...]:
        """What it shares with outputs that lie alike: the number of tokens, or the whole shape."""
        return tuple(self.shape[1:2] if len(self.shape) == 3 else self.shape[1:])

    def without_graph(self) -> "Output":
        """The same, which keeps no graph in memory."""
        return replace(self, edge=None)

    def marks(self, logits: Tensor) -> Tensor | None:
        """NaN wherever the logits depend on the output; None where they do not at all."""
        assert self.edge is not None
        with torch.inference_mode(False), torch.autograd.set_detect_anomaly(False):
            # NaN also comes through a head whose weights are still zero
            (marks,) = torch.autograd.grad(
                logits,
                self.edge,
                torch.full_like(logits, torch.nan),
                retain_graph=True,
                allow_unused=True,
            )
        return marks


@dataclass(frozen=True)
class Trace:
    """What the watched pass showed.

    Attributes:
        outputs: Of the layer that was asked for, or of all modules, in order of execution.
        logits: With their graph.
        size: (H, W) of the image.
        patches: Those changed in each of the five pictures.
        layer: That was asked for; None for all modules.
        frame_known: False where the network pads, crops or warps the image in a way not made out.
    """

    outputs: list[Output]
    logits: Tensor
    size: Grid
    patches: list[list[Patch]]
    layer: str | None = None
    frame_known: bool = True

    def of_tokens(self) -> "Trace":
        """What it showed of [B, N, D], without the graph."""
        tokens = [each.without_graph() for each in self.outputs if len(each.shape) == 3]
        return replace(self, outputs=tokens, logits=self.logits.detach())

    def all_passes(self, output: Output) -> bool:
        """Whether nothing that the logits know of the image has come another way."""
        assert output.edge is not None
        assert self.logits.grad_fn is not None
        seen, ahead = {output.edge.node}, [self.logits.grad_fn]
        met = False
        while ahead:
            node = ahead.pop()
            met = met or node is output.edge.node
            if node in seen:
                continue
            seen.add(node)
            following = [each for each, _ in node.next_functions if each is not None]
            if not following:
                return False  # the image: nothing else asks for a gradient
            ahead += following
        return met

    def place(self, output: Output) -> tuple[Target, Tensor] | None:
        """How an output lies, and how far from each of two patches twice it answers then, [2, 2].

        All tokens of one number are read alike, so that most of them answer best: what attention
        or a branch has mixed says little by itself.
        """
        alike = [other for other in self.outputs if other.kind == output.kind]
        best, lowest = None, torch.inf
        for target in output.targets:
            found = [
                changes
                for other in (alike if len(output.targets) > 1 else [output])
                for t, changes in zip(other.targets, other.changes, strict=True)
                if (t.layout, t.grid, t.prefix) == (target.layout, target.grid, target.prefix)
            ]
            away = self._away(torch.stack(found), target)
            mean = float(away.nanmean().nan_to_num(0))
            if mean < lowest:
                own = output.changes[output.targets.index(target)]
                best, lowest = (target, self._away(own, target)), mean
        return best

    def _away(self, changes: Tensor, target: Target) -> Tensor:
        two = self.patches[:PAIRS]
        return cells_away(changes[..., :PAIRS, :, :], two, self.size, target.frame)

    def local(self, output: Output, ways: list[Target], away: Tensor) -> Target | None:
        """The way to read an output in which it answers beyond doubt where the image is changed.

        The axes of a map are known to be those of the image. It only must not be turned or
        mirrored: deep convolutions, of random weights above all, see a patch at the border further
        in, but on the same half. Tokens must answer every patch. Few cells prove nothing, and are
        not asked for more where all of them are neighbours.

        Args:
            output: One of this pass.
            ways: To read it, the likeliest first.
            away: As `place` has it for the first of them.
        """
        is_map, grid = ways[0].layout != "tokens", ways[0].grid
        if is_map and max(grid) - 1 <= NEAR:
            return ways[0] if bool((away.nan_to_num(0) <= NEAR).all()) else None
        if min(grid) < ENOUGH:
            return None
        if is_map:
            return ways[0] if bool((away <= NEAR).all()) else None
        for way in ways:
            changes = output.changes[output.targets.index(way)]
            if is_local(changes, self.patches, self.size, way.frame):
                return way
        return None

    def with_places(self, output: Output, target: Target) -> bool:
        """Whether tokens beside those of a grid stand for places, too, as those of another scale.

        Before anything is mixed, a class token or register answers to no change of the picture, and
        a mean to all of them; what answers to one and not at all to the other stands for a place.
        """
        first = next((o.tokens for o in self.outputs if o.kind == output.kind), None)
        if first is None or target.layout != "tokens":
            return False
        end = target.prefix + target.grid[0] * target.grid[1]
        others = torch.cat([first[:, : target.prefix], first[:, end:]], 1)
        least, most = others.aminmax(dim=0)
        return bool((least < _SELECTIVE * most).any())

    def alike(self, output: Output, target: Target) -> list[Target]:
        """Ways to read the tokens of an output on one grid, the given one first."""
        return [target] + [
            other
            for other in output.targets
            if other.layout == "tokens" == target.layout
            and other.grid == target.grid
            and other != target
        ]
