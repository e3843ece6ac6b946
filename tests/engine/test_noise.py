"""Noise around pictures, by a loop in NumPy over the streams of their samples."""

import numpy as np
import pytest
import torch

from var_exp.engine.noise import check_noise, gaussian_like, generators_of
from var_exp.seeds import sample_generator


def test_noise_is_that_of_a_loop_in_the_range_of_each_picture():
    """Pictures whose darkest value is not 0, each with a range of its own."""
    images = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)) + 1
    images *= torch.tensor([1.0, 2.0, 5.0]).view(-1, 1, 1, 1)
    ids, rows, draws = ["x", "y"], torch.tensor([1, 0, 1]), torch.tensor([0, 2, 3])
    found = gaussian_like(images, 0.2, generators_of(7, ids, rows, draws))
    for image, row, draw, noise in zip(images.numpy(), rows, draws, found.numpy(), strict=True):
        stream = sample_generator(7, ids[row], int(draw))
        drawn = torch.randn(2, 4, 5, generator=stream).numpy()
        np.testing.assert_allclose(noise, drawn * 0.2 * (image.max() - image.min()), rtol=1e-6)


def test_noise_is_the_same_in_any_type():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).bfloat16()

    def drawn(images):
        streams = generators_of(7, ["x"], torch.tensor([0, 0]), torch.tensor([0, 1]))
        return gaussian_like(images, 0.5, streams)

    assert drawn(images).dtype == torch.bfloat16
    torch.testing.assert_close(drawn(images).double(), drawn(images.double()), rtol=0.02, atol=0)


def test_a_flat_picture_has_no_noise_and_a_negative_deviation_is_refused():
    flat = torch.full((1, 3, 2, 2), 0.5)
    assert not gaussian_like(flat, 0.2, [torch.Generator()]).any()
    check_noise(0.0)
    with pytest.raises(ValueError, match=r"noise must not be negative, got -0\.1; set noise=0\.15"):
        check_noise(-0.1)
