"""One watched forward pass: the outputs of all modules, how they may lie, and what they answer to.

The pass shows the network three pictures, two of which have patches changed (`models.locality`), so
that each output tells at once where it changed. A module's output is spatial when its shape says so

    channels first  [B, D, h, w]  with h : w as in the image (CNNs)
    channels last   [B, h, w, D]  likewise (Swin)
    tokens          [B, p + h w, D] (ViTs), where (h, w) leads back to a map that was seen
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from var_exp.models.frames import find_frame
from var_exp.models.frozen import frozen
from var_exp.models.grids import MOST_OTHERS, Grid, Grids
from var_exp.models.locality import Patch, cells_away, change, changed, two_patches_twice
from var_exp.models.spatial import Frame, Target, first_of
from var_exp.types import Images, UnsupportedModel

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
        changes: For each of these, how much its cells changed in either picture, [2, h, w].
        tokens: How much each of its tokens did, [2, N]; None where it has none.
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
        patches: Those changed in each of the two pictures.
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

    def place(self, output: Output) -> tuple[Target, Tensor] | None:
        """How an output lies, and how far from each patch it answers then, [2, 2].

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
            away = cells_away(torch.stack(found), self.patches, self.size, target.frame)
            mean = float(away.nanmean().nan_to_num(0))
            if mean < lowest:
                own = output.changes[output.targets.index(target)]
                own_away = cells_away(own, self.patches, self.size, target.frame)
                best, lowest = (target, own_away), mean
        return best

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


def trace(model: nn.Module, image: Images, layer: str | None = None) -> Trace:
    """Watch one forward pass.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.
        layer: Dotted name of the module to look at; None looks at all whose outputs are feature
            maps in their own right.

    Raises:
        UnsupportedModel: the model returns no logits.
    """
    size = (image.shape[2], image.shape[3])
    patches = two_patches_twice(size)
    pictures = changed(image.detach(), patches)
    watch = _Watch(pictures, patches, layer)
    with torch.inference_mode(False), torch.enable_grad(), frozen(model), _hooks(model, watch):
        logits = model(pictures.clone().requires_grad_().clone())
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        seen = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModel(
            f"the model must return logits [B, N], got {seen}; "
            "wrap it so that it returns only those."
        )
    asked = [output for output in watch.outputs if layer is None or output.name == layer]
    outputs = asked if logits.requires_grad else []
    return Trace(outputs, logits, size, patches, layer, watch.frame_known)


class _Watch:
    """Notes the outputs of modules as they run."""

    def __init__(self, pictures: Tensor, patches: list[list[Patch]], layer: str | None) -> None:
        self.outputs: list[Output] = []
        self._n, self._channels = pictures.shape[:2]
        self._grids = Grids((pictures.shape[2], pictures.shape[3]))
        self._patches = patches
        self._layer = layer
        self._kept: Tensor | None = None  # values of the last eligible output
        self._n_runs: Counter[str] = Counter()
        self._frame: Frame | None = None
        self._looked = False
        self.frame_known = True

    def see(self, name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        self._n_runs[name] += 1
        if isinstance(module, nn.Conv2d) and inputs and isinstance(inputs[0], Tensor):
            self._look_for_padding(inputs[0])
        several, output = output, first_of(output)
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        if len(output) != self._n:
            if output.ndim == 3 and output.shape[1] == self._n and len(list(module.parameters())):
                edge = get_gradient_edge(output)
                self.outputs.append(Output(name, output.shape, edge, [], []))
            return
        if several is not output and any(output is each for each in inputs):
            return  # handed through beside what the module makes
        run = self._n_runs[name] - 1
        targets = self._targets(name, run, output)
        eligible = self._is_feature(module, targets, output)
        if eligible:
            if output.ndim == 4 and targets:
                self._grids.add(targets[0].grid)
            self._kept = output.detach().clone()  # cloned: a later layer may overwrite it
        if eligible or name == self._layer:
            changes = [change(target.to_map(output)) for target in targets]
            tokens = change(output.mT.unsqueeze(3))[..., 0] if output.ndim == 3 else None
            edge = get_gradient_edge(output)
            self.outputs.append(Output(name, output.shape, edge, targets, changes, tokens))

    def _targets(self, name: str, run: int, output: Tensor) -> list[Target]:
        """How a module's output may lie over the image."""
        shape, fits = output.shape, self._grids.fits
        found = []
        if output.ndim == 4:
            if fits(shape[2], shape[3]):
                found.append(Target(name, "channels_first", (shape[2], shape[3]), 0, run))
            if fits(shape[1], shape[2]):
                found.append(Target(name, "channels_last", (shape[1], shape[2]), 0, run))
        elif output.ndim == 3:
            for grid, others in self._grids.of_tokens(shape[1]):
                # all others in front, all behind, or some of them here and there
                prefixes = dict.fromkeys((others, 0, *range(min(others, MOST_OTHERS))))
                found += [Target(name, "tokens", grid, prefix, run) for prefix in prefixes]
        return [_framed(target, self._frame) for target in found]

    def _is_feature(self, module: nn.Module, targets: list[Target], output: Tensor) -> bool:
        """Whether an output is a feature map in its own right.

        Not one is a bare linear projection (queries, keys, values) other than a convolution.
        Of modules without parameters count only those that change values but not the shape, such as
        an activation: pooling for the head and identities are left out.
        """
        is_map = bool(targets) and targets[0].layout == "channels_first"
        if not is_map and not list(module.children()):
            own = [parameter.ndim for parameter in module.parameters(recurse=False)]
            if own and max(own) > 1:
                return False
        if any(True for _ in module.parameters()):
            return True
        before = self._kept
        return before is not None and before.shape == output.shape and not before.equal(output)

    def _look_for_padding(self, input: Tensor) -> None:
        """Note where the image lies in what the first layer reads, if it is padded or cropped."""
        if self._looked or input.shape[:2] != (self._n, self._channels):
            return
        self._looked = True
        self._frame, self.frame_known = find_frame(change(input), self._patches, self._grids.size)


def _framed(target: Target, frame: Frame | None) -> Target:
    return Target(target.name, target.layout, target.grid, target.prefix, target.run, frame)


@contextmanager
def _hooks(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Let the watch see the name, module, inputs and output of every module that runs."""

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        return lambda module, inputs, output: watch.see(name, module, inputs, output)

    handles = [
        module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
