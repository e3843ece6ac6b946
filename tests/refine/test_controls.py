import math

import pytest
import torch
from scipy import ndimage

from var_exp.refine.controls import edge_map, gaussian_map, random_map, same_sparsity
from var_exp.refine.var import VAR


def test_same_sparsity_keeps_the_largest():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2, 3, 3, 6, 6, generator=generator)
    refined = VAR()(base)
    control = same_sparsity(base, refined)
    for b in range(2):
        for k in range(3):
            count = refined[b, k].count_nonzero().item()
            assert control[b, k].count_nonzero().item() == count
            kept = control[b, k] != 0
            assert torch.equal(control[b, k][kept], base[b, k][kept])
            assert base[b, k][kept].abs().min() >= base[b, k][~kept].abs().max()


def test_same_sparsity_ties_by_place():
    base = torch.tensor([1.0, -2.0, 2.0, 2.0, -1.0]).view(1, 1, 1, 1, 5)
    refined = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 1, 5)
    assert same_sparsity(base, refined).flatten().tolist() == [0, -2, 2, 0, 0]


def by_sorting(base, refined):
    """The definition, one map after the other: a stable sort of magnitudes, NaN first."""
    kept = torch.zeros_like(base)
    for b in range(base.shape[0]):
        for k in range(base.shape[1]):
            values = base[b, k].flatten().tolist()
            count = sum(value != 0 for value in refined[b, k].flatten().tolist())
            order = sorted(
                range(len(values)),
                key=lambda i: (not math.isnan(values[i]), -abs(values[i])),
            )
            for place in order[:count]:
                kept[b, k].view(-1)[place] = 1
    return base * kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["noise", "ties", "zeros", "equal", "inf", "nan", "all nan"])
def test_same_sparsity_is_the_stable_sort_to_the_last_bit(kind, dtype):
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(3, 2, 3, 5, 7, generator=generator, dtype=dtype)
    drawn = torch.rand(base.shape, generator=generator)
    if kind == "ties":
        base = (2 * base).round()
    elif kind == "zeros":
        base[drawn < 0.7] = 0.0
    elif kind == "equal":
        base = base.sign()
    elif kind == "inf":
        base[drawn < 0.1] = -torch.inf
    elif kind == "nan":
        base[drawn < 0.1] = torch.nan
    elif kind == "all nan":
        base[1, 0] = torch.nan
    for share in (0.0, 0.01, 0.1, 0.5, 0.95, 1.0):
        refined = (torch.rand(base.shape, generator=generator) < share).to(dtype)
        found, expected = same_sparsity(base, refined), by_sorting(base, refined)
        assert torch.equal(found.nan_to_num(nan=7e7), expected.nan_to_num(nan=7e7))
        assert torch.equal(found.signbit() & ~found.isnan(), expected.signbit() & ~expected.isnan())


def test_same_sparsity_extremes():
    base = torch.randn(1, 2, 1, 4, 4)
    assert torch.equal(same_sparsity(base, base), base)
    assert same_sparsity(base, torch.zeros_like(base)).count_nonzero() == 0
    few = base * (torch.arange(16).view(4, 4) < 3)
    assert torch.equal(same_sparsity(few, base), few)


def test_same_sparsity_of_summed_channels():
    base = torch.randn(2, 4, 3, 5, 5)
    refined = VAR(channels="sum")(base)
    control = same_sparsity(base, refined)
    assert control.shape == refined.shape
    assert torch.equal(control.flatten(2).count_nonzero(2), refined.flatten(2).count_nonzero(2))
    with pytest.raises(ValueError, match="must have one shape"):
        same_sparsity(base, refined[:, :3])


def test_random_map_is_seeded_per_sample_and_class():
    classes = torch.tensor([[3, 5], [5, 3]])
    maps = random_map(["a", "b"], classes, (4, 6))
    assert maps.shape == (2, 2, 1, 4, 6)
    assert torch.equal(random_map(["b"], classes[1:], (4, 6))[0], maps[1])
    assert torch.equal(random_map(["a"], classes[1:], (4, 6))[0, 1], maps[0, 0])
    assert not torch.equal(maps[0, 0], maps[1, 1])
    assert not torch.equal(random_map(["a", "b"], classes, (4, 6), seed=1), maps)
    assert 0 <= maps.min() < maps.max() < 1
    with pytest.raises(ValueError, match="zip"):
        random_map(["a"], classes, (4, 6))


def test_gaussian_map():
    for height, width in ((5, 5), (4, 7)):
        result = gaussian_map(height, width)
        for y in range(height):
            for x in range(width):
                dy = ((y + 0.5) / height - 0.5) / 0.25
                dx = ((x + 0.5) / width - 0.5) / 0.25
                assert result[y, x].item() == pytest.approx(math.exp(-(dy**2 + dx**2) / 2))
    assert gaussian_map(5, 5)[2, 2] == 1


def test_edge_map_is_sobel():
    images = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    for image, edges in zip(images, edge_map(images), strict=True):
        grey = image.mean(0).numpy()
        across = ndimage.sobel(grey, axis=1, mode="nearest")
        down = ndimage.sobel(grey, axis=0, mode="nearest")
        expected = torch.from_numpy((across**2 + down**2) ** 0.5)
        torch.testing.assert_close(edges[0], expected)
