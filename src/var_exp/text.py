"""Text from strangers that goes into tables, pages and pictures: what may not pass as it is.

Names of files and classes come from whoever made the data. `printable` takes out what would break a
line or ring a bell, `safe_cell` what a spreadsheet would compute, `without_folders` where things
lie on somebody's disk.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_PATH = re.compile(r"(?<![\w.…/:])(?:~|[A-Za-z]:)?(?:[/\\][^\s'\"/\\,;:()\[\]{}<>|]+){2,}/?")
_QUOTED_PATH = re.compile(r"(['\"])((?:~|[A-Za-z]:)?[/\\][^'\"\n]*)\1")


_AS_WRITTEN = {
    "abpc": "ABPC", "abs": "of |a|", "aopc": "AOPC", "auc": "AUC", "bcos": "as for B-cos",
    "f1": "F1", "iou": "IoU", "lerf": "LeRF", "road": "ROAD", "ssim": "by SSIM",
}  # fmt: skip


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def readable(alias: str) -> str:
    """The alias of a measure as print has it.

    Examples:
        >>> readable("grid_pointing_game"), readable("insertion_auc_logit")
        ('grid pointing game', 'insertion AUC logit')
        >>> readable("f1_best_threshold"), readable("energy_pointing_game_abs")
        ('F1 best threshold', 'energy pointing game of |a|')
    """
    return " ".join(_AS_WRITTEN.get(word, word) for word in alias.split("_"))


def printable(name: str) -> str:
    r"""A name in which line breaks, bells and other signs that are not drawn stand as escapes.

    Examples:
        >>> printable("new\nline.png"), printable("猫 ünï.png")
        ('new\\nline.png', '猫 ünï.png')
    """
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs")
        else sign
        for sign in name
    )


def safe_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are.

    Examples:
        >>> safe_cell("=1+1"), safe_cell("a=b"), safe_cell(-1.5)
        ("'=1+1", 'a=b', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def plain_cell(text: str) -> str:
    """What `safe_cell` was given, from what it wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


class TableWriter:
    """Writes rows as CSV, each text through `safe_cell`.

    Args:
        file: Open for writing, with newline="".
    """

    def __init__(self, file: TextIO) -> None:
        self._lines = csv.writer(file)

    def writerow(self, row: Iterable[object]) -> None:
        """Write one row."""
        self._lines.writerow([safe_cell(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def without_folders(value: Any) -> Any:
    """The same with the last name alone of every absolute path: a configuration, or a sentence.

    Pages and tables are mailed around; where the author's data lie is nobody's business.

    Examples:
        >>> without_folders({"root": "/home/ann/photos", "seed": 0})
        {'root': '…/photos', 'seed': 0}
        >>> without_folders("cannot read '/home/ann/photos/a b.jpg' (no such file)")
        "cannot read '…/a b.jpg' (no such file)"
    """
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each) for each in value]
    if isinstance(value, Path):
        return without_folders(str(value))
    if not isinstance(value, str):
        return value
    if re.match(r"(~|[A-Za-z]:)?[/\\]", value) and not re.search(r"['\"\n]", value):
        return _last(value)
    quoted = _QUOTED_PATH.sub(lambda found: f"{found[1]}{_last(found[2])}{found[1]}", value)
    return _PATH.sub(lambda found: _last(found[0]), quoted)


def _last(path: str) -> str:
    return f"…/{PurePosixPath(path.replace(chr(92), '/')).name}"
