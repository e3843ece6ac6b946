"""The memory knob: chunks of bounded size, halved when memory runs out, with the same result."""

import logging

import pytest
import torch
from torch import nn

from var_exp.engine.chunks import ChunkLimit, add_by_row
from var_exp.methods import get_method
from var_exp.types import ConfigError, OutOfMemory


class Crowded(nn.Module):
    """Classifier that takes no more than `room` images at a time."""

    def __init__(self, room, error):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
        self.net(torch.zeros(1, 3, 8, 8))
        self.room, self.error, self.seen = room, error, []

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > self.room:
            raise self.error
        return self.net(images)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory")


def test_chunks_cover_every_index_once_in_order():
    for limit in (1, 3, 4, 10, 99):
        found = list(ChunkLimit(limit).chunks(10, lambda indices: indices * 2))
        assert torch.cat([indices for indices, _ in found]).tolist() == list(range(10))
        assert torch.cat([result for _, result in found]).tolist() == list(range(0, 20, 2))
        assert max(len(indices) for indices, _ in found) == min(limit, 10)


def test_pairs_name_image_and_step():
    jobs = ChunkLimit(4).pairs(2, 3, lambda rows, steps: None)
    seen = [
        pair for rows, steps, _ in jobs for pair in zip(rows.tolist(), steps.tolist(), strict=True)
    ]
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_limit_below_one_is_refused():
    with pytest.raises(ConfigError, match="max_batch must be at least 1, got 0"):
        get_method("gradient", max_batch=0)


@pytest.mark.parametrize("error", [CUDA, CPU])
@pytest.mark.parametrize("alias", ["gradient", "ig", "smoothgrad", "occlusion", "captum"])
def test_running_out_of_memory_halves_says_so_and_changes_nothing(alias, error, caplog):
    options = {"occlusion": {"window": 4, "stride": 4}, "captum": {"max_batch": 7}}.get(alias, {})
    images, classes = torch.randn(7, 3, 8, 8), torch.randint(5, (7, 2))
    ids = list("abcdefg")
    roomy, tight = Crowded(10**6, error), Crowded(2, error)
    expected = get_method(alias, **options).attribute(roomy, images, classes, ids=ids)
    method = get_method(alias, **options)
    with caplog.at_level(logging.WARNING):
        maps = method.attribute(tight, images, classes, ids=ids)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    assert "going on with" in caplog.text
    assert f"max_batch={method._limit.images}" in caplog.text
    tight.seen.clear()
    method.attribute(tight, images, classes, ids=ids)
    if alias != "captum":  # DeepLIFT doubles the batch that it is given
        assert max(tight.seen) <= 2  # the lower limit is remembered


def test_a_single_image_that_does_not_fit():
    with pytest.raises(OutOfMemory, match=r"a single image does not fit into memory \(.*memory"):
        get_method("gradient").attribute(
            Crowded(0, CUDA), torch.zeros(3, 3, 8, 8), torch.zeros(3, 1, dtype=torch.int64)
        )


def test_other_errors_are_not_swallowed():
    with pytest.raises(RuntimeError, match="no memory problem"):
        list(
            ChunkLimit(4).chunks(
                4, lambda _: (_ for _ in ()).throw(RuntimeError("no memory problem"))
            )
        )


def test_add_by_row():
    total = torch.zeros(2, 1)
    add_by_row(total, torch.tensor([0, 1, 0]), torch.tensor([[1.0], [2.0], [4.0]]))
    assert total.tolist() == [[5.0], [2.0]]
