"""One watched forward pass: the outputs of all modules, how they may lie, and what they answer to.

The pass shows the network six pictures, five of which have patches changed (`models.locality`), so
that each output tells at once where it changed. A module's output is spatial when its shape says so

    channels first  [B, D, h, w]  with h : w as in the image (CNNs)
    channels last   [B, h, w, D]  likewise (Swin)
    tokens          [B, p + h w, D] (ViTs), where (h, w) leads back to a map that was seen
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from var_exp.models.frames import find_frame
from var_exp.models.frozen import frozen
from var_exp.models.grids import MOST_OTHERS, Grids
from var_exp.models.locality import Patch, change, changed, row_ends, two_patches_twice
from var_exp.models.spatial import Frame, Target, first_of
from var_exp.models.watched_outputs import PAIRS, Output, Trace
from var_exp.types import Images, UnsupportedModel


def trace(
    model: nn.Module,
    image: Images,
    layer: str | None = None,
    within: AbstractContextManager[Any] | None = None,
) -> Trace:
    """Watch one forward pass, of `PICTURES` pictures.

    Args:
        model: Any module from images to logits.
        image: [1, C, H, W], of which only the shape, type and device count.
        layer: Dotted name of the module to look at; None looks at all whose outputs are feature
            maps in their own right.
        within: What the network runs in; it does not see what the watch calls.

    Raises:
        UnsupportedModel: the model returns no logits.
    """
    size = (image.shape[2], image.shape[3])
    patches = two_patches_twice(size) + row_ends(size)
    pictures = changed(image.detach(), patches)
    watch = _Watch(pictures, patches, layer)
    with torch.inference_mode(False), torch.enable_grad(), frozen(model), _hooks(model, watch):
        leaf = pictures.clone().requires_grad_().clone()
        with within or nullcontext():
            logits = model(leaf)
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
        self._frame, self.frame_known = find_frame(
            change(input)[:PAIRS], self._patches[:PAIRS], self._grids.size
        )


def _framed(target: Target, frame: Frame | None) -> Target:
    return Target(target.name, target.layout, target.grid, target.prefix, target.run, frame)


@contextmanager
def _hooks(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Let the watch see the name, module, inputs and output of every module that runs."""

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def see(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            with torch._C.DisableTorchFunction():
                watch.see(name, module, inputs, output)

        return see

    handles = [
        module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
