"""Masked forward passes against a plain loop."""

import torch
from torch import nn

from var_exp.engine.chunks import ChunkLimit
from var_exp.engine.perturb import masked_logits, masked_scores


def test_equals_a_loop_for_any_chunk():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5)).double()
    images = torch.randn(3, 3, 4, 4).double()
    masks = torch.rand(3, 7, 1, 4, 4).double()
    expected = torch.stack(
        [
            torch.stack([model((x * m + 0.5 * (1 - m))[None])[0] for m in own])
            for x, own in zip(images, masks, strict=True)
        ]
    )
    for max_batch in (1, 4, 5, 100):
        chunks = list(
            masked_logits(
                model,
                images,
                lambda rows, indices: masks[rows, indices],
                7,
                limit=ChunkLimit(max_batch),
                baseline=0.5,
            )
        )
        assert max(len(chunk.rows) for chunk in chunks) <= max_batch
        assert torch.cat([chunk.rows for chunk in chunks]).tolist() == [0] * 7 + [1] * 7 + [2] * 7
        assert torch.equal(torch.cat([chunk.masks for chunk in chunks]), masks.flatten(0, 1))
        logits = torch.cat([chunk.logits for chunk in chunks]).view(3, 7, 5)
        torch.testing.assert_close(logits, expected.detach(), rtol=1e-12, atol=1e-14)


def test_a_network_of_half_precision_gets_pictures_of_its_type():
    seen = []

    class Model(nn.Module):
        def forward(self, images):
            seen.append(images.dtype)
            return images.flatten(1)

    masks = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    images = torch.full((1, 1, 2, 2), 3.0, dtype=torch.bfloat16)
    (chunk,) = masked_logits(
        Model(), images, lambda _, indices: masks[indices], 3, limit=ChunkLimit(8)
    )
    assert seen == [torch.bfloat16]
    assert chunk.logits[:, 0].tolist() == [0, 1.5, 3]


def test_gradient_mode_is_not_changed_while_iterating():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = torch.randn(1, 1, 2, 2)
    for chunk in masked_logits(
        model, images, lambda rows, _: torch.ones(len(rows), 1, 2, 2), 3, limit=ChunkLimit(1)
    ):
        assert torch.is_grad_enabled()
        assert model[1].weight.requires_grad
        assert not chunk.logits.requires_grad


def test_scores_of_the_classes_asked_about_for_any_chunk():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    images, classes = torch.randn(3, 3, 4, 4), torch.tensor([[0, 3], [2, 2], [4, 1]])
    masks = torch.rand(3, 7, 1, 4, 4)
    with torch.no_grad():
        logits = model((images[:, None] * masks).flatten(0, 1)).view(3, 7, 5).double()
    expected = torch.stack([own[:, chosen] for own, chosen in zip(logits, classes, strict=True)])
    for max_batch in (1, 4, 100):
        given = (model, images, classes, lambda rows, indices: masks[rows, indices], 7)
        scores = masked_scores(*given, limit=ChunkLimit(max_batch))
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
        squares = masked_scores(
            *given,
            limit=ChunkLimit(max_batch),
            score=lambda logits, classes: logits.gather(1, classes) ** 2,
        )
        torch.testing.assert_close(squares, expected**2, rtol=1e-5, atol=1e-6)
