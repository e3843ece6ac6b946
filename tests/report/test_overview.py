"""The overview of a page: every picture small, as many as a page bears."""

import base64
from pathlib import PurePosixPath

import torch

from var_exp.refine.var import VAR
from var_exp.report.overview import overview_of
from var_exp.report.panels import Panel
from var_exp.report.thumbnails import thumbnail
from var_exp.results.drawings import Drawing

BYTES = bytes(range(250)) * 3  # 1,000 characters and the 23 before them


def drawings(count):
    for i in range(count):
        yield Drawing(f"{i} ü.png", f"tabby {i}", PurePosixPath(f"maps/pictures/{i} ü#.png"), BYTES)


def test_a_card_leads_to_the_file_and_holds_the_small_picture():
    (card,) = overview_of(drawings(1)).shown
    assert (card.sample_id, card.sentence) == ("0 ü.png", "tabby 0")
    assert card.address == "maps/pictures/0%20%C3%BC%23.png"
    assert base64.b64decode(card.source.removeprefix("data:image/jpeg;base64,")) == BYTES


def test_a_page_bears_so_many_and_counts_all():
    overview = overview_of(drawings(9), budget=3 * 1023)
    assert [card.sentence for card in overview.shown] == ["tabby 0", "tabby 1", "tabby 2"]
    assert overview.count == 9


def panel(competition):
    return Panel(
        sample_id="a",
        image=torch.full((3, 300, 600), 200, dtype=torch.uint8),
        class_names=["tabby", "lynx"],
        asked=1,
        maps={"base": torch.stack([torch.ones(1, 300, 600), torch.zeros(1, 300, 600)])},
        competition=competition,
    )


def test_a_thumbnail_is_the_photograph_beside_who_wins():
    image = thumbnail(panel(VAR.scaled()))
    assert image.size == (2 * 168 + 4, 84)
    assert image.getpixel((80, 40)) == (200, 200, 200)
    red, _, blue = image.getpixel((250, 40))
    assert blue > red + 50  # the first class has it all, and is blue


def test_where_nothing_competes_it_is_the_photograph():
    assert thumbnail(panel(None)).size == (168, 84)
