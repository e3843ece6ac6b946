"""Every picture of a run, small, on its page: each leads to the file that shows all its maps."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from var_exp.results.drawings import Drawing

_BUDGET = 4_000_000  # characters of all thumbnails on a page


@dataclass(frozen=True)
class Card:
    """One picture of an overview.

    Attributes:
        sample_id: Which.
        sentence: What it answers.
        address: Of its file, seen from the page.
        source: The small picture, as an address that holds it.
    """

    sample_id: str
    sentence: str
    address: str
    source: str


@dataclass(frozen=True)
class Overview:
    """The pictures of a run, as many as a page bears.

    Attributes:
        shown: The first of them.
        count: All that were drawn.
    """

    shown: Sequence[Card]
    count: int


def overview_of(drawings: Iterable[Drawing], budget: int = _BUDGET) -> Overview:
    """Cards of what was drawn, until a page has enough; one at a time, which bounds the memory.

    Args:
        drawings: In their order on the page.
        budget: Most characters of all thumbnails.
    """
    shown: list[Card] = []
    count = 0
    for one in drawings:
        count += 1
        source = f"data:image/jpeg;base64,{base64.b64encode(one.thumbnail).decode()}"
        budget -= len(source)
        if budget >= 0:
            shown.append(Card(one.sample_id, one.sentence, quote(str(one.picture)), source))
    return Overview(shown, count)
