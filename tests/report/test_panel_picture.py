"""The picture of one panel: all is there, nothing overlaps or is cut, both painters agree."""

import io
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.refine.var import VAR
from var_exp.report.letters import broken, font
from var_exp.report.overlays import class_colours, rgb_of
from var_exp.report.panel_layout import Bar, Picture, Words, layout_of
from var_exp.report.panel_picture import panel_figure, panel_picture
from var_exp.report.panels import Panel

SETTINGS = VAR(temperature=3.0, scale="rms", magnitude="signed", channels="sum")


def panel(count=2, size=(60, 80), **changes):
    generator = torch.Generator().manual_seed(count)
    base = torch.randn(count, 2, *size, generator=generator)
    refined = SETTINGS(base[None])[0] if count > 1 else base
    given = {
        "maps": {"base": base, "var_scaled": refined},
        "probabilities": [0.6 / 2**k for k in range(count)],
        "source": "a_network · gradcam",
        "predicted": "something else (0.61)",
        "competition": SETTINGS,
        "competitions": {"var_scaled": SETTINGS},
        "shared": base.sum(1).clamp_min(0).amin(0),
    }
    names = [f"a class with a name {k}" for k in range(count)]
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    return Panel("folder/photo.jpg", image, names, 1, **{**given, **changes})


def words(layout):
    return " ".join(piece.text for piece in layout.pieces if isinstance(piece, Words))


def boxes(layout):
    """Left, top, right and bottom of all that must not touch anything else."""
    for piece in layout.pieces:
        if isinstance(piece, Words):
            letters = font(piece.size, bold=piece.bold)
            yield letters.getbbox(piece.text, anchor="ls") + np.tile((piece.x, piece.y), 2)
        elif isinstance(piece, Picture):
            yield np.array((piece.x, piece.y, piece.x + piece.width, piece.y + piece.height), float)


SHAPES = [
    (count, size) for count in (1, 2, 3, 4, 5, 6, 9, 16) for size in ((60, 80), (120, 60), (64, 64))
] + [(3, (40, 700)), (3, (700, 40)), (2, (7, 7))]


@pytest.mark.parametrize(("count", "size"), SHAPES)
def test_nothing_overlaps_and_nothing_leaves_the_picture(count, size):
    layout = layout_of(panel(count, size))
    found = list(boxes(layout))
    for one, other in combinations(found, 2):
        apart = (one[2:] <= other[:2] + 1e-6).any() or (other[2:] <= one[:2] + 1e-6).any()
        assert apart, (one, other)
    assert min(box[:2].min() for box in found) >= 36
    assert max(box[2] for box in found) <= layout.width - 30
    assert max(box[3] for box in found) <= layout.height - 12
    assert layout.width <= 1210
    pictures = [piece for piece in layout.pieces if isinstance(piece, Picture)]
    competing = count > 1  # a class alone has no competition to be shown
    assert len(pictures) == 1 + (1 + competing + 1) + count * (2 + competing)


def test_it_says_all_that_one_needs_to_read_it():
    told = words(layout_of(panel(3)))
    assert told.startswith(
        "a class with a name 0 0.60 rather than a class with a name 1 0.30 or a class with a name 2"
    )
    for part in (
        "folder/photo.jpg",
        "a_network · gradcam",
        "the model says something else (0.61)",
        "probability 0.60",
        "probability 0.15",
        "photograph",
        "who wins",
        "what they share",
        "base what speaks for each class (red) and against it (blue)",
        "var_scaled what each class keeps",
        "shares where each class wins",
        "against the class",
        "98 % quantile",
        "above 1/3",
        "loses least",
    ):
        assert part in told, part
    pictures = [p for p in layout_of(panel(3)).pieces if isinstance(p, Picture)]
    assert len(pictures) == 3 + 3 * 3 + 1  # at the left, by class, the colour bar
    assert "Empty map" not in told


def test_what_there_is_not_is_not_spoken_of():
    bare = panel(shared=None, competition=None, probabilities=(), predicted=None)
    told = words(layout_of(bare))
    assert not [part for part in ("share", "who wins", "probability", "says") if part in told]
    assert len([p for p in layout_of(bare).pieces if isinstance(p, Picture)]) == 1 + 2 * 2 + 1


def test_an_empty_map_and_a_score_stand_under_their_map():
    maps = {"base": torch.randn(2, 1, 60, 80), "cgi": torch.zeros(2, 1, 60, 80)}
    scored = panel(
        maps=maps, competitions={}, metric="pointing", scores={"cgi": [0.125, float("nan")]}
    )
    layout = layout_of(scored)
    told = words(layout)
    assert "0.12 pointing empty map empty map" in told
    assert "Empty map: the class keeps nothing" in told


def test_bars_are_as_long_as_the_probabilities():
    layout = layout_of(panel(2, probabilities=[0.8, 0.2]))
    bars = [p for p in layout.pieces if isinstance(p, Bar) and p.height == 6]
    assert [bar.width / bars[0].width for bar in bars] == pytest.approx([1, 0.8, 1, 0.2])
    assert [bar.colour for bar in bars[1::2]] == class_colours(2)


def test_the_regions_are_outlined():
    region = torch.zeros(1, 60, 80, dtype=torch.bool)
    region[0, 15:30, 20:60] = True
    drawn = panel_picture(panel(2, regions=region))
    plain = panel_picture(panel(2))
    assert "true region" in words(layout_of(panel(2, regions=region)))
    picture = next(p for p in layout_of(panel(2)).pieces if isinstance(p, Picture))
    corner = (round(picture.x + picture.width / 4), round(picture.y + picture.height / 4))
    changed = np.asarray(drawn)[corner[1], corner[0]] != np.asarray(plain)[corner[1], corner[0]]
    assert changed.any()
    assert np.asarray(drawn)[corner[1], corner[0]].max() < 60  # the ink of the line


def test_evidence_is_red_and_shares_wear_the_colour_of_their_class():
    base = torch.zeros(2, 1, 64, 64)
    base[0, 0, :32], base[1, 0, 32:] = 1.0, 1.0
    given = panel(2, (64, 64), maps={"base": base, "var_scaled": SETTINGS(base[None])[0]})
    pictures = [p for p in layout_of(given).pieces if isinstance(p, Picture)]
    winners, refined, shares = pictures[3], pictures[4], pictures[7]
    for picture in (refined, shares):
        pixels = np.asarray(picture.image).astype(int)
        grey = np.ptp(pixels[40:], axis=-1)
        assert not grey.any()  # the other class's half
    red = np.asarray(refined.image)[:32].reshape(-1, 3).mean(0)
    assert red[0] > red[2] + 80
    colours = [rgb_of(colour) for colour in class_colours(2)]
    assert np.abs(np.asarray(shares.image)[:32].reshape(-1, 3) - colours[0]).max() <= 2
    halves = np.asarray(winners.image)
    assert np.abs(halves[:32].reshape(-1, 3).astype(int) - colours[0]).max() <= 2
    assert np.abs(halves[32:].reshape(-1, 3).astype(int) - colours[1]).max() <= 2


def test_both_painters_draw_the_same():
    given = panel(3)
    picture = panel_picture(given)
    assert picture.mode == "RGB"
    figure = panel_figure(given)
    figure.savefig(buffer := io.BytesIO(), format="png")
    drawn = Image.open(buffer).convert("RGB")
    assert np.abs(np.subtract(drawn.size, picture.size)).max() <= 1
    small = [
        np.asarray(one.resize((120, 100), Image.Resampling.BOX)).astype(int)
        for one in (picture, drawn)
    ]
    assert np.abs(small[0] - small[1]).mean() < 4
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("dpi", [100, 150, 300])
def test_words_of_a_figure_stay_within_its_margins(dpi):
    given = panel(2, source="a source of many words " * 9)
    figure = panel_figure(given)
    figure.set_dpi(dpi)
    (axis,) = figure.axes
    right = max(text.get_window_extent().x1 for text in axis.texts)
    width = layout_of(given).width
    assert right * 100 / dpi <= width - 35
    assert right * 100 / dpi > 0.8 * width  # the caption fills its lines


def test_a_figure_keeps_words_as_words_and_dollars_as_they_are():
    given = panel(2, source="$100 $\\alpha$")
    figure = panel_figure(given)
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer := io.BytesIO(), format="svg", metadata={"Date": None})
    assert "$100 $\\alpha$" in buffer.getvalue().decode()
    assert plt.get_fignums() == []  # nothing for a notebook to show twice


def test_inputs_are_left_alone():
    given = panel()
    copies = {name: maps.clone() for name, maps in given.maps.items()}
    panel_picture(given)
    assert all(torch.equal(copies[name], maps) for name, maps in given.maps.items())


@pytest.mark.parametrize("width", [40, 150, 700])
def test_broken_lines_fit(width):
    text = "some words of a title and a verylongwordthatcannotpossiblyfitanywhere at the end"
    for lines in (1, 2, 5):
        found = broken(text, width, 17, bold=True, lines=lines)
        assert 1 <= len(found) <= lines
        assert all(font(17, bold=True).getlength(line) <= width for line in found)
        assert text.startswith(found[0].rstrip("…").rstrip())
    assert broken("short", 700, 17, lines=3) == ["short"]


def test_what_is_not_finite_is_said_and_the_rest_is_drawn():
    base = torch.randn(2, 1, 60, 80, generator=torch.Generator().manual_seed(0))
    base[0, 0, :3, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    given = panel(2, maps={"base": base, "var_scaled": SETTINGS(base[None])[0]})
    told = words(layout_of(given))
    assert "not finite in 9 pixels" in told
    assert "nan" not in told.lower().split()
    assert np.asarray(panel_picture(given)).std() > 10
