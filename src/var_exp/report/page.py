"""The page of a run: one self-contained HTML file that needs no network.

Its script lets classes compete anew, sorts tables and sets the opacity; without it all pictures and
figures are there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from var_exp.files import write_whole
from var_exp.metrics.base import Traits
from var_exp.report.axes import Axis, axis_of, curve_axis, curve_points, matrix_depth
from var_exp.report.live import live_data, live_samples
from var_exp.report.overview import overview_of
from var_exp.report.page_samples import REASONS, PageSample, colour_bar, page_samples
from var_exp.report.panels import SCALE_RULE, Panel
from var_exp.report.templates import inline_script, templates
from var_exp.results.by_class import ClassFigures
from var_exp.results.curves import Curves, MeanMatrix
from var_exp.results.drawings import Drawing
from var_exp.results.summary import SummaryRow
from var_exp.results.verdicts import Verdict, by_metric, judge
from var_exp.variants import BASE, Role

_CLASS_ROWS = 3000  # of all tables class by class: about 2 MB
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


def write_report(
    path: Path,
    *,
    title: str,
    summary: Sequence[SummaryRow],
    traits: Mapping[str, Traits],
    panels: Sequence[Panel],
    curves: Sequence[Curves],
    config_yaml: str,
    facts: Mapping[str, str],
    matrices: Sequence[MeanMatrix] = (),
    chance: Mapping[str, float] | None = None,
    classes: Mapping[str, Sequence[ClassFigures]] | None = None,
    pictures_first: bool = False,
    drawings: Iterable[Drawing] = (),
) -> None:
    """Write the report; everything given is escaped.

    Args:
        path: The HTML file; one that exists is replaced.
        title: Headline, such as "gbp on critters_cnn".
        summary: All figures.
        traits: What each metric is; the first metric, first refiner is the headline.
        panels: Samples to show; the first class of the first one stands by the headline.
        curves: Mean curves to show; may be empty.
        config_yaml: The resolved configuration.
        facts: Provenance, such as versions, device, seed, duration: label to text.
        matrices: Mean matrices to show.
        chance: Score of guessing per metric, where there is one.
        classes: Per metric the figures class by class.
        pictures_first: Begin with the pictures, in the order of their names, as people's own
            photographs deserve.
        drawings: The pictures that were drawn of samples; the page leads to their files.

    Raises:
        ValueError: a metric of the summary without a direction.
    """
    metrics = by_metric(summary, traits)
    verdicts = judge(summary, traits)
    if pictures_first:
        panels = sorted(panels, key=lambda panel: panel.sample_id)
    samples = page_samples(panels)
    overview = overview_of(drawings)
    playable = live_samples(panels, every=pictures_first)
    script, policy = inline_script("competition.js", "page.js", "live.js", "sort.js")
    chance = chance or {}
    known = [name for name in metrics if classes and name in classes]
    shown = _light(known, classes or {})
    template = templates().get_template("page.html.jinja")
    page = template.render(
        title=title,
        verdicts=verdicts,
        metrics={name: _groups(rows, chance.get(name)) for name, rows in metrics.items()},
        roles={row.variant.name: row.variant.role for row in summary},
        curve_axis=curve_axis,
        curve_points=curve_points,
        matrix_depth=matrix_depth,
        higher_is_better={name: its.higher_is_better for name, its in traits.items()},
        chance=chance,
        samples=samples,
        overview=overview,
        drawn={one.sample_id: one.address for one in overview.shown},
        lead=_lead(verdicts, samples),
        reasons=REASONS,
        stops=colour_bar(),
        scale_rule=SCALE_RULE,
        live_places=playable,
        live=live_data([panels[place] for place in playable]) if playable else None,
        script=script,
        policy=policy,
        classes=shown,
        pictures_first=pictures_first,
        unfolded=[name for name in known if name not in shown],
        class_axes={metric: _class_axis(table) for metric, table in shown.items()},
        curves=curves,
        matrices=matrices,
        config_yaml=config_yaml,
        facts=facts,
    )
    write_whole(path, page)


def _groups(rows: Sequence[SummaryRow], chance: float | None) -> list[_Group]:
    """The figures of one metric by role; maps and controls share an axis, to be compared."""
    scores = [row for row in rows if row.variant.role != "difference"]
    groups = []
    for heading, members in _GROUPS.items():
        signed = members == ("difference",)
        chosen = [row for row in rows if row.variant.role in members]
        mark = 0.0 if signed else chance
        axis = axis_of(chosen if signed else scores, *([] if mark is None else [mark]))
        if chosen:
            groups.append(_Group(heading, chosen, axis, mark, signed))
    return groups


def _lead(verdicts: Sequence[Verdict], samples: Sequence[PageSample]) -> int | None:
    """The sample whose first class stands by the headline figure; a random one comes first."""
    if not verdicts:
        return None
    wanted = {BASE, verdicts[0].refined.variant.name}
    return next((i for i, sample in enumerate(samples) if wanted <= sample.rows.keys()), None)


def _light(
    names: Sequence[str], classes: Mapping[str, Sequence[ClassFigures]]
) -> dict[str, Sequence[ClassFigures]]:
    """Tables of the first metrics, as many as the page bears; one at least."""
    ends = list(accumulate(len(classes[name]) for name in names))
    return {
        name: classes[name]
        for place, (name, end) in enumerate(zip(names, ends, strict=True))
        if place == 0 or end <= _CLASS_ROWS
    }


def _class_axis(table: Sequence[ClassFigures]) -> Axis:
    """Axis of the differences of the first refiner, with zero."""
    return axis_of([next(iter(one.refined.values()))[1] for one in table if one.refined], 0.0)
