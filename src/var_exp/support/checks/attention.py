"""Attention maps: matrices noted by a stand-in for fused attention, or by the softmax."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from var_exp.engine.attention import find_tokens
from var_exp.engine.read_outs import find_layers
from var_exp.support.checks.case import Case, Unchecked, per_class, relative_error
from var_exp.support.checks.stand_ins import StandIns, logits_through


def attention_rollout(case: Case) -> float:
    """Whole products of the matrices that a stand-in for fused attention has noted."""
    matrices, _ = _matrices(case)
    rolled = torch.eye(matrices[0].shape[-1], dtype=torch.float64)
    for matrix in matrices:
        rolled = (matrix.detach()[0].mean(0) + torch.eye(len(rolled))) / 2 @ rolled
    expected = _read(case, rolled[None]).expand_as(case.maps)
    return relative_error(case.maps, expected)


def transformer_attribution(case: Case) -> float:
    """Whole products of such matrices times their gradients by autograd, class by class."""
    matrices, scores = _matrices(case)
    rolled = []
    for score in scores:
        gradients = torch.autograd.grad(score, matrices, retain_graph=True)
        identity = torch.eye(matrices[0].shape[-1], dtype=torch.float64)
        relevance = identity.clone()
        for matrix, gradient in zip(matrices, gradients, strict=True):
            relevance = relevance + (matrix * gradient).relu()[0].mean(0).detach() @ relevance
        rolled.append(relevance - identity)
    return relative_error(case.maps, _read(case, torch.stack(rolled)))


def attention_gradcam(case: Case) -> float:
    """Rows of the last such matrix by their mean gradient from autograd, class by class."""
    matrices, scores = _matrices(case)
    tokens = find_tokens(case.model, case.image)
    h, w = tokens.grid
    maps = []
    for score in scores:
        (gradient,) = torch.autograd.grad(score, matrices[-1], retain_graph=True)
        rows = [
            (matrices[-1][0, head, token, -h * w :] * gradient[0, head, token, -h * w :].mean())
            for head in range(len(gradient[0]))
            for token in tokens.read
        ]
        cam = torch.stack(rows).mean(0).detach().clamp_min(0)
        if cam.max() > 0:
            cam = (cam - cam.min()) / (cam.max() - cam.min())
        maps.append(cam.view(1, h, w))
    size = (case.image.shape[2], case.image.shape[3])
    expected = interpolate(torch.stack(maps), size, mode="bilinear", align_corners=False)
    return relative_error(case.maps, expected)


def legrad(case: Case) -> float:
    """A pass for each layer, whose tokens a hook puts where the last one returns its own."""
    layers = find_layers(case.model, case.image, find_tokens(case.model, case.image).count)
    total = torch.zeros((), dtype=torch.float64)
    for index, layer in enumerate(layers):
        kept: list[Any] = []

        def keep(_module: object, _inputs: object, output: Any, kept: list[Any] = kept) -> None:
            kept.append(output)

        def put(_module: object, _inputs: object, _output: Any, kept: list[Any] = kept) -> Any:
            return kept[0]

        handles = [
            hook.register_forward_hook(do) for hook, do in ((layer, keep), (layers[-1], put))
        ]
        matrices, stand_ins = _noted()
        with stand_ins:
            logits = case.model(case.image.clone().requires_grad_())
        for handle in handles:
            handle.remove()
        gradients = per_class(case.explained(logits)[0], matrices[index])
        total = total + gradients.relu().mean((1, 2), keepdim=True) / len(layers)
    rows = total[:, 0].expand(-1, total.shape[-1], -1)  # alike, whichever is read
    return relative_error(case.maps, _read(case, rows))


def _matrices(case: Case) -> tuple[list[Tensor], Tensor]:
    """Attention matrices [1, heads, N, N] of the layers, in their order, and the scores [K]."""
    matrices, stand_ins = _noted()
    logits = logits_through(stand_ins, case, case.image.clone().requires_grad_())
    if not matrices:
        raise Unchecked("the check has not met the network's attention")
    return matrices, case.explained(logits)[0]


def _noted() -> tuple[list[Tensor], StandIns]:
    """A list that fills with the attention matrices of the passes inside the stand-ins."""
    matrices: list[Tensor] = []

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *_: Any,
        scale: float | None = None,
        **__: Any,
    ) -> Tensor:
        products = (scale or query.shape[-1] ** -0.5) * torch.matmul(query, key.mT)
        products = products if attn_mask is None else products + attn_mask
        return torch.matmul(softmax(products, -1), value)

    def softmax(x: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
        shares = torch.softmax(x, dim)
        if shares.ndim == 4 and shares.shape[2] == shares.shape[3]:
            matrices.append(shares)
        return shares

    stand_ins = StandIns({"scaled_dot_product_attention": attention, "softmax": softmax})
    return matrices, stand_ins


def _read(case: Case, rolled: Tensor) -> Tensor:
    """Maps of image size from products [n, N, N]: the mean row of the tokens that are read."""
    tokens = find_tokens(case.model, case.image)
    rows = rolled[:, list(tokens.read)].mean(1)
    h, w = tokens.grid
    coarse = rows[:, -h * w :].reshape(-1, 1, h, w)
    size = (case.image.shape[2], case.image.shape[3])
    return interpolate(coarse, size, mode="bilinear", align_corners=False)
