import io

import pytest
from named_variants import variant
from rich.console import Console

from var_exp.report.console import summary_table
from var_exp.results.summary import SummaryRow

SUMMARY = [
    SummaryRow("grid_pointing_game", variant("base"), 0.308, 0.29, 0.32, 12_800, 0, 1),
    SummaryRow(
        "grid_pointing_game", variant("var[x]"), 0.906, 0.89, 0.92, 12_800, 2800, 1, 0, 12_345
    ),
    SummaryRow("grid_pointing_game", variant("var[x]-base"), 0.598, 0.58, 0.62, 12_800, 2800),
    SummaryRow("grid_pointing_game", variant("var_random_classes"), 0.4, 0.39, 0.41, 12_800),
    SummaryRow("deletion_auc", variant("base"), float("nan"), float("nan"), float("nan"), 0),
]
DIRECTIONS = {"grid_pointing_game": True, "deletion_auc": False}


def printed(width, *, terminal=False):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
    console.print(summary_table(SUMMARY, DIRECTIONS))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_every_figure_is_readable_without_colour(width):
    text = printed(width)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= width
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert any(line.startswith("base 0.308 [0.290, 0.320] 12,800 empty_region=1") for line in lines)
    assert any(
        line.startswith("var[x] 0.906 [0.890, 0.920] 12,800 empty_map=2800") for line in lines
    )
    assert "var[x]-base +0.598 [+0.580, +0.620] 12,800" in lines
    assert "base undefined [no interval] 0" in lines
    assert (
        lines.index("controls") == lines.index("var_random_classes 0.400 [0.390, 0.410] 12,800") - 1
    )
    assert "tied=12345" in text


def test_a_terminal_gets_colour_and_the_same_words():
    coloured = printed(100, terminal=True)
    assert "\x1b[" in coloured
    assert "higher is better" in coloured
    assert "lower is better" in coloured


def test_a_metric_without_direction_is_refused():
    with pytest.raises(ValueError, match="'deletion_auc' must have a direction"):
        summary_table(SUMMARY, {"grid_pointing_game": True})


@pytest.mark.parametrize(("no_color", "terminal"), [("1", True), ("", False)])
def test_colour_only_on_a_terminal_that_wants_it(monkeypatch, no_color, terminal):
    rows = [
        SummaryRow("game", variant("base"), 0.3, 0.2, 0.4, 8),
        SummaryRow("game", variant("var"), 0.9, 0.8, 1, 8),
    ]
    rows.append(SummaryRow("game", variant("var-base"), 0.6, 0.5, 0.7, 8))
    table = summary_table(rows, {"game": True})
    coloured = io.StringIO()
    Console(file=coloured, force_terminal=True, width=80, color_system="standard").print(table)
    assert "\x1b[36m" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", no_color)
    plain = io.StringIO()
    Console(file=plain, force_terminal=terminal, width=80).print(table)
    assert "\x1b[36m" not in plain.getvalue()
