"""The page of a run: one self-contained HTML file that needs no network and no script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import Z_RLE

from PIL import Image

from var_exp.report.files import write_whole
from var_exp.report.overlays import greyed, note, overlay
from var_exp.report.panels import SCALE_RULE, Panel
from var_exp.report.plots import Axis, Curves, axis_of
from var_exp.report.statistics import BASE, SummaryRow
from var_exp.report.templates import data_url, templates
from var_exp.report.verdicts import Role, Verdict, by_metric, judge, roles

_GROUPS: dict[str, tuple[Role, ...]] = {
    "Maps": ("base", "refined"),
    "Controls": ("control",),
    "Paired difference to the base map": ("difference",),
}


@dataclass(frozen=True)
class _Group:
    """Figures of one metric that share a heading and an axis."""

    heading: str
    rows: Sequence[SummaryRow]
    axis: Axis
    mark: float | None  # dashed line: chance, or zero for differences
    signed: bool


@dataclass(frozen=True)
class _Cell:
    """One map of the gallery."""

    source: str
    alt: str
    caption: str
    note: str


@dataclass(frozen=True)
class _Sample:
    """One sample of the gallery."""

    panel: Panel
    image: str
    grey: str
    rows: Mapping[str, Sequence[_Cell]]


def write_report(
    path: Path,
    *,
    title: str,
    summary: Sequence[SummaryRow],
    higher_is_better: Mapping[str, bool],
    panels: Sequence[Panel],
    curves: Sequence[Curves],
    config_yaml: str,
    facts: Mapping[str, str],
    chance: Mapping[str, float] | None = None,
) -> None:
    """Write the report; everything given is escaped.

    Args:
        path: The HTML file; one that exists is replaced.
        title: Headline, such as "gbp on critters_cnn".
        summary: All figures.
        higher_is_better: Direction per metric; the first metric, first refiner is the headline.
        panels: Samples to show; the first class of the first one stands by the headline.
        curves: Mean curves to show; may be empty.
        config_yaml: The resolved configuration.
        facts: Provenance, such as versions, device, seed, duration: label to text.
        chance: Score of guessing per metric, where there is one.

    Raises:
        ValueError: a metric of the summary without a direction.
    """
    metrics = by_metric(summary, higher_is_better)
    verdicts = judge(summary, higher_is_better)
    samples = [_sample(panel) for panel in panels]
    chance = chance or {}
    template = templates().get_template("page.html.jinja")
    page = template.render(
        title=title,
        verdicts=verdicts,
        metrics={name: _groups(rows, chance.get(name)) for name, rows in metrics.items()},
        roles=roles([row.variant for row in summary]),
        higher_is_better=higher_is_better,
        chance=chance,
        samples=samples,
        lead=_lead(verdicts, samples),
        scale_rule=SCALE_RULE,
        curves=curves,
        config_yaml=config_yaml,
        facts=facts,
    )
    write_whole(path, page)


def _groups(rows: Sequence[SummaryRow], chance: float | None) -> list[_Group]:
    """The figures of one metric by role; maps and controls share an axis, to be compared."""
    role_of = roles([row.variant for row in rows])
    scores = [row for row in rows if role_of[row.variant] != "difference"]
    groups = []
    for heading, members in _GROUPS.items():
        signed = members == ("difference",)
        chosen = [row for row in rows if role_of[row.variant] in members]
        mark = 0.0 if signed else chance
        axis = axis_of(chosen if signed else scores, *([] if mark is None else [mark]))
        if chosen:
            groups.append(_Group(heading, chosen, axis, mark, signed))
    return groups


def _sample(panel: Panel) -> _Sample:
    """Pictures of one panel as data addresses."""
    image = Image.fromarray(panel.image.permute(1, 2, 0).contiguous().cpu().numpy())
    return _Sample(
        panel,
        data_url(image, "JPEG", quality=88),
        data_url(greyed(panel.image), "JPEG", quality=80),
        {variant: _cells(panel, variant) for variant in panel.maps},
    )


def _lead(verdicts: Sequence[Verdict], samples: Sequence[_Sample]) -> _Sample | None:
    """The first class of the first sample, base beside refined, to stand by the headline figure."""
    if not verdicts or not samples:
        return None
    wanted = (BASE, verdicts[0].refined.variant)
    rows = {name: samples[0].rows[name][:1] for name in wanted if name in samples[0].rows}
    return replace(samples[0], rows=rows) if len(rows) == len(wanted) else None


def _cells(panel: Panel, variant: str) -> list[_Cell]:
    """Overlays of one variant, a cell per class."""
    maps = panel.flat(variant)
    cells = []
    for index, name in enumerate(panel.class_names):
        remark = note(maps[index])
        alt = f"{variant} map of the class {name} for sample {panel.sample_id}"
        picture = overlay(maps[index], panel.scale, panel.region(index))
        source = data_url(picture, "PNG", compress_type=Z_RLE)
        cells.append(_Cell(source, f"{alt}, {remark}" if remark else alt, name, remark))
    return cells
