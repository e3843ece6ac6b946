import torch

from var_exp.metrics.baselines import channel_mean, make_fill
from var_exp.metrics.imputation import impute_linearly
from var_exp.seeds import sample_generator


def images():
    return torch.randn(3, 3, 12, 10, generator=torch.Generator().manual_seed(0)).double()


def test_mean_is_that_of_each_picture_and_channel():
    mean = channel_mean(images())
    for picture, canvas in zip(images(), mean, strict=True):
        for channel, colour in zip(picture, canvas, strict=True):
            torch.testing.assert_close(colour, torch.full((12, 10), channel.mean()).double())


def test_only_missing_pixels_change():
    missing = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(1)) < 0.4
    for baseline in ("zero", "mean", "blur", "noisy_linear"):
        fill = make_fill(baseline, images(), ["a", "b", "c"], 0, (1.0,))
        filled = fill(torch.tensor([2, 0, 1]), missing)
        rows = images()[[2, 0, 1]]
        changed = (filled != rows).all(1)
        assert torch.equal(changed, missing), baseline


def test_noise_has_a_stream_per_id_and_the_scale_of_the_colours():
    missing = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(1)) < 0.4
    std = (0.2, 0.5, 1.0)
    fill = make_fill("noisy_linear", images(), ["a", "b", "a"], 7, std)
    noise = fill(torch.arange(3), missing) - impute_linearly(images(), missing)
    for row, name in zip(range(3), ["a", "b", "a"], strict=True):
        drawn = torch.randn(3, 12, 10, generator=sample_generator(7, name)).double()
        expected = (
            0.01 * drawn / torch.tensor(std, dtype=torch.float64)[:, None, None] * missing[row]
        )
        torch.testing.assert_close(noise[row], expected, atol=1e-9, rtol=0)
