"""What the pages share: the templates' environment, how numbers and names read, pictures inline."""

import base64
import hashlib
import io
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from var_exp.report.panels import probability
from var_exp.results.rows import FLAGS
from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import interval, mean, number


def templates() -> Environment:
    """Templates of this folder, escaping, and strict about names."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        mean=mean,
        interval=interval,
        ledger=_ledger,
        breakable=_breakable,
        tick=_tick,
        probability=probability,
        small=_two_digits,
        p_value=_p_value,
    )
    return environment


def inline_script(*names: str) -> tuple[Markup, str]:
    """Scripts of this folder to stand in a page as one, and the source that a policy allows."""
    texts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names]
    text = "".join(texts)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"'sha256-{digest}'"


def data_url(picture: Image.Image, kind: str, **options: int) -> str:
    """A picture as an address that holds the picture itself."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _ledger(row: SummaryRow) -> str:
    """The non-zero counts in words, each kept on one line."""
    counts = {flag.replace("_", "\u00a0"): getattr(row, flag) for flag in FLAGS}
    return ", ".join(f"{count:,}\u00a0x\u00a0{flag}" for flag, count in counts.items() if count)


def _breakable(name: str) -> Markup:
    """A name that may break after "_", "+" and "/", for narrow screens; escaped."""
    parts = re.split(r"(?<=[_+/])", name)
    return Markup("<wbr>").join(parts)


def _tick(value: float, *, signed: bool = False) -> str:
    """Label of a tick, never in powers of ten."""
    sign = "+" if signed and value > 0 else ""
    return f"{sign}{value:.6f}".rstrip("0").rstrip(".")


def _two_digits(value: float) -> str:
    """Two digits, never in powers of ten."""
    return f"{float(f'{value:.2g}'):.12f}".rstrip("0").rstrip(".")


def _p_value(value: float) -> str:
    """Two digits, or a bound below which nobody tells the difference."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
