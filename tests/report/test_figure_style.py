"""Colours that stay apart for everybody, files that need no font."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from var_exp.report.figure_style import HUES, INK, MARKERS, mark_of, printed, save

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
BLIND = {
    "nobody": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def seen(colour, matrix):
    """L*a*b* of a colour as such eyes see it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(matrix) @ linear, 0, 1)
    f = np.cbrt(XYZ @ linear / XYZ.sum(1))  # all of ours lie above the linear foot near black
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", BLIND)
def test_colours_are_told_apart(eyes):
    for one, other in itertools.combinations((INK, *HUES), 2):
        assert np.linalg.norm(seen(one, BLIND[eyes]) - seen(other, BLIND[eyes])) > 12, (one, other)


def test_neighbours_differ_in_colour_and_shape():
    marks = [mark_of("abcdef", name) for name in "abcdef"]
    assert len({colour for colour, _ in marks}) == len({shape for _, shape in marks}) == 6
    assert len(HUES) == len(MARKERS)


def test_style_does_not_leak(tmp_path):
    before = plt.rcParams["pdf.fonttype"]
    with printed():
        figure, axis = plt.subplots()
        axis.set_title("Aβ")
        files = save(figure, tmp_path / "a.b")
    assert [file.name for file in files] == ["a.b.pdf", "a.b.svg", "a.b.png"]
    assert plt.rcParams["pdf.fonttype"] == before
