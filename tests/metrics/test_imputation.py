"""The iterative solve against a direct one, and what is known in closed form."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from var_exp.metrics.imputation import impute_linearly

WEIGHTS = {(y, x): 1 / 6 if 0 in (y, x) else 1 / 12 for y in (-1, 0, 1) for x in (-1, 0, 1)}
del WEIGHTS[0, 0]


def solved_directly(image, missing):
    """One equation per missing pixel, by a sparse factorisation."""
    channels, height, width = image.shape
    number = {tuple(place): i for i, place in enumerate(np.argwhere(missing).tolist())}
    entries, right = [], np.zeros((len(number), channels))
    for (y, x), i in number.items():
        for (dy, dx), weight in WEIGHTS.items():
            near = (y + dy, x + dx)
            if 0 <= near[0] < height and 0 <= near[1] < width:
                entries.append((i, i, weight))
                if near in number:
                    entries.append((i, number[near], -weight))
                else:
                    right[i] += weight * image[:, near[0], near[1]]
    rows, columns, values = zip(*entries, strict=True)
    filled = image.copy()
    solution = spsolve(coo_matrix((values, (rows, columns))).tocsc(), right)
    filled[:, missing] = solution.reshape(len(number), channels).T
    return filled


def masks(height, width):
    """Scattered pixels, a disc, half of the picture, all but a corner."""
    generator = torch.Generator().manual_seed(3)
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)
    corner = torch.ones(height, width, dtype=torch.bool)
    corner[:2, :2] = False
    scattered = torch.rand(height, width, generator=generator)
    return torch.stack(
        [scattered < 0.3, scattered < 0.9, y**2 + x**2 < 0.9, (y + 0 * x) > 0, corner]
    )


@pytest.mark.parametrize("size", [(32, 32), (45, 51)])
def test_equals_a_direct_solve(size):
    missing = masks(*size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(missing), 3, *size, generator=generator, dtype=torch.float64)
    filled = impute_linearly(images, missing)
    for image, hole, result in zip(images.numpy(), missing.numpy(), filled.numpy(), strict=True):
        expected = solved_directly(image, hole)
        assert np.abs(result - expected).max() <= 1e-4


def test_a_slope_is_restored_exactly():
    """Inside the picture the weights are even, so linear functions solve the system."""
    image = (torch.arange(20.0)[:, None] * 2 - torch.arange(24.0)).double()[None, None]
    missing = torch.zeros(1, 20, 24, dtype=torch.bool)
    missing[:, 3:15, 2:20] = True
    holed = torch.where(missing[:, None], torch.nan, image).nan_to_num(99.0)
    torch.testing.assert_close(impute_linearly(holed, missing), image, atol=1e-4, rtol=0)


def test_nothing_missing_is_the_picture_and_nothing_known_its_mean():
    images = torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    missing = torch.tensor([False, True])[:, None, None].expand(2, 10, 12)
    filled = impute_linearly(images, missing)
    assert torch.equal(filled[0], images[0])
    mean = images[1].mean((1, 2), keepdim=True).expand(3, 10, 12)
    torch.testing.assert_close(filled[1], mean)


def test_known_pixels_and_the_type_are_kept():
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    missing = masks(16, 16)
    for dtype in (torch.float32, torch.bfloat16):
        filled = impute_linearly(images.to(dtype), missing)
        assert filled.dtype == dtype
        known = ~missing[:, None].expand_as(images)
        assert torch.equal(filled[known], images.to(dtype)[known])


def test_a_picture_does_not_depend_on_its_company():
    images = torch.randn(5, 3, 33, 20, generator=torch.Generator().manual_seed(0)).double()
    missing = masks(33, 20)
    together = impute_linearly(images, missing)
    for row in range(5):
        alone = impute_linearly(images[row : row + 1], missing[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, rtol=1e-12, atol=1e-12)


def test_a_black_picture_stays_black():
    filled = impute_linearly(torch.zeros(5, 1, 16, 16), masks(16, 16))
    assert torch.equal(filled, torch.zeros(5, 1, 16, 16))
