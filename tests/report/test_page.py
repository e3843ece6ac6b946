import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from named_variants import variant as named
from PIL import Image

from var_exp.metrics.base import Traits
from var_exp.refine.var import VAR
from var_exp.report.page import write_report
from var_exp.report.panels import Panel
from var_exp.report.templates import templates
from var_exp.results.by_class import ClassFigures, by_class
from var_exp.results.curves import Curves, MeanMatrix
from var_exp.results.rows import Row
from var_exp.results.summary import SummaryRow, summarise

HOSTILE = "<script>a_balert('x')</script> \"&amp; `${1}`"
VOID = {"meta", "link", "img", "br", "wbr", "input", "hr"}
VARIANTS = ("base", "var", "var_same_sparsity", "random_map")


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def figures(metrics=("grid_pointing_game", "deletion_auc"), refiner="var"):
    variants = ("base", refiner, *VARIANTS[2:])
    generator = np.random.default_rng(0)
    rows = [
        Row(f"id-{i}", c, metric, named(variant), float(mean + generator.normal(0, 0.05)), flags)
        for metric in metrics
        for variant, mean in zip(variants, (0.3, 0.9, 0.31, 0.25), strict=True)
        for i in range(30)
        for c, flags in ((0, ""), (1, "empty_map" if variant == refiner and i < 7 else ""))
    ]
    return summarise(rows)


def sample(i, size=64, classes=("cat", "dog"), refiners=("var",), **changes):
    generator = torch.Generator().manual_seed(i)
    base = torch.randn(len(classes), 3, size, size, generator=generator)
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)
    regions = torch.zeros(len(classes), size, size, dtype=torch.bool)
    regions[:, : size // 2] = True
    given = {
        "maps": {"base": base, **dict.fromkeys(refiners, base * (base > 1))},
        "regions": regions,
        "predicted": "cat (0.98)",
        "kind": ("random", "best", "worst", "most changed")[i % 4],
        "metric": "grid_pointing_game",
        "scores": {"base": [0.25] * len(classes), "var": [0.875] * len(classes)},
        "competition": VAR(),
    }
    return Panel(f"val-{i}", image, classes, len(classes), **{**given, **changes})


def report(tmp_path, **changes):
    given = {
        "title": "gbp on critters_cnn",
        "summary": figures(),
        "traits": {"grid_pointing_game": Traits(True), "deletion_auc": Traits(False)},
        "panels": [sample(0), sample(1)],
        "curves": [
            Curves("deletion_auc", "share", "probability", [0, 0.5, 1], {"base": [1, 0.2, 0]})
        ],
        "config_yaml": "method: gbp\nseed: 0\n",
        "facts": {"device": "cpu"},
        "chance": {"grid_pointing_game": 0.25},
    }
    path = tmp_path / "report.html"
    write_report(path, **{**given, **changes})
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_page_needs_no_network_and_runs_no_script_but_its_own(tmp_path):
    text, page = report(tmp_path)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    for _, attributes in page.elements:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert all(address.startswith("data:") for address in re.findall(r"url\(([^)]*)\)", text))
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert page.all("script") == [{"type": "application/json", "id": "live-data"}, {}]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{digest}'")


def test_every_picture_is_described_and_can_be_decoded(tmp_path):
    _, page = report(tmp_path)
    pictures = page.all("img")
    # The photo, two pictures of the distribution, the maps and shares of each sample; two maps by
    # the headline; a photo of each to choose from.
    assert len(pictures) == 2 * (1 + 2 + 3 * 2) + 2 + 2
    for attributes in pictures:
        assert attributes["alt"]
        kind, data = attributes["src"].split(",", 1)
        assert kind in ("data:image/jpeg;base64", "data:image/png;base64")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)
    for attributes in page.all("svg"):
        described = "aria-label" in attributes or attributes.get("aria-hidden") == "true"
        assert described or "viewbox" in attributes  # the last one lies inside a described one


def test_a_sample_says_why_it_is_shown_and_how_it_scored(tmp_path):
    _, page = report(tmp_path)
    words = " ".join(page.text.split())
    assert "random: drawn at random val-0 model says cat (0.98)" in words
    assert "best: among the best scores val-1" in words
    assert "grid_pointing_game: base 0.250 var 0.875" in words
    assert "refined; the number is its grid_pointing_game" in words
    paths = [a for a in page.all("path") if a.get("id", "").startswith("outline-")]
    assert {a["d"] for a in paths} == {"M0 0H64M0 32H64M0 0V32M64 0V32"}
    drawn = {a["href"][1:] for a in page.all("use")}
    assert drawn == {a["id"] for a in paths}


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "1"), (0.0123, "0.012"), (0.0000456, "0.000046"), (0.0, "0")]
)
def test_shares_read_in_two_digits(share, text):
    assert templates().filters["small"](share) == text


def photograph(i=0, **changes):
    """A picture of one's own: no label, no region, no score."""
    asked = {
        "asked": 1,
        "regions": None,
        "metric": "",
        "scores": {},
        "kind": "",
        "probabilities": [0.6, 0.3, 0.001],
        "predicted": "Egyptian cat (0.60)",
        "shared": torch.ones(64, 64),
        "competitions": {"var": VAR(magnitude="signed")},
    }
    names = ("Egyptian cat", "tabby", "tiger cat")
    given = sample(i, classes=names)
    return replace(given, **{**asked, **changes})


SENTENCE = "Egyptian cat 0.60 rather than tabby 0.30 or tiger cat <0.01"


def test_a_page_of_photographs_begins_with_what_is_explained(tmp_path):
    nothing = {"summary": [], "traits": {}, "curves": [], "chance": None}
    given = [photograph(1, kind="random"), photograph(0, kind="random")]
    _, page = report(tmp_path, panels=given, pictures_first=True, **nothing)
    words = " ".join(page.text.split())
    assert words.count(SENTENCE) == 2
    assert words.index("val-0") < words.index("val-1")  # by name, not as chance drew them
    assert words.index(SENTENCE) < words.index("Let them compete", 400)
    assert "same_sparsity" not in words
    assert "the model says" not in words  # the sentence has said it
    assert "tiger cat<0.01" in words.replace(" <", "<")
    assert "what the classes share" in words
    assert "Figures" not in words
    assert "score" not in words[: words.index("How to read this", 400)]
    # photo, who wins, how decided, shared, three maps twice and their shares; and both to choose
    assert len(page.all("img")) == 2 * (4 + 3 * 3) + 2
    lengths = [a["style"] for a in page.all("span") if "width" in a.get("style", "")]
    assert [length.split("width: ")[1] for length in lengths] == ["60.0%", "30.0%", "0.1%"] * 2


def test_scores_are_not_put_where_they_would_be_taken_for_probabilities(tmp_path):
    measured = {"scores": {"base": [0.777], "var": [0.888]}, "metric": "insertion_auc"}
    given = photograph(kind="best", **measured)
    nothing = {"summary": [], "traits": {}, "curves": [], "chance": None}
    _, first = report(tmp_path, panels=[given], pictures_first=True, **nothing)
    _, other = report(tmp_path, panels=[given], **nothing)
    for figure in ("0.777", "0.888", "0.78", "0.89", "among the best"):
        assert figure not in first.text
    assert "0.78" in other.text


def test_the_page_of_one_photograph_has_the_sentence_for_a_title(tmp_path):
    nothing = {"summary": [], "traits": {}, "curves": [], "chance": None}
    _, page = report(tmp_path, panels=[photograph()], pictures_first=True, **nothing)
    words = " ".join(page.text.split())
    assert words.count(SENTENCE) == 2
    assert words.index(SENTENCE) < 200
    assert "gbp on critters_cnn." in words


def test_a_prediction_that_was_not_asked_about_is_said(tmp_path):
    _, page = report(tmp_path, panels=[photograph(predicted="dog (0.70)")], pictures_first=True)
    assert "model says dog (0.70)" in page.text


def test_what_is_won_by_losing_least_is_said(tmp_path):
    given = photograph()
    maps = {"base": given.maps["base"], "var": -given.maps["base"].abs()}
    _, page = report(tmp_path, panels=[replace(given, maps=maps)], pictures_first=True)
    assert (
        page.text.count("no evidence for it; loses least in 100 % of the pixels") == 3 + 1
    )  # and by the verdict
    (alt, *_) = [a["alt"] for a in page.all("img") if "no evidence" in a["alt"]]
    assert alt.startswith("var map of the class")


def test_without_competition_there_is_nothing_to_play_with(tmp_path):
    text, page = report(tmp_path, panels=[sample(0, competition=None)])
    assert page.all("form") == []
    assert "who wins" not in page.text
    assert len(page.all("img")) == 1 + 2 * 2 + 2
    assert 'href="#live"' not in text


def test_classes_have_a_table_that_sorts_and_folds(tmp_path):
    rows = [
        Row(f"id-{i}", label, metric, named(variant), score + 0.1 * (i % 2))
        for metric in ("grid_pointing_game", "deletion_auc")
        for i in range(6)
        for label in range(3)
        for variant, score in (("base", 0.2 + 0.1 * label), ("var", 0.7))
    ]
    names = ["zebra", HOSTILE, "cat"]
    _, page = report(tmp_path, classes=by_class(rows, names))
    assert page.all("details") == [{"open": None}, {}, {"class": "legend-of-pictures"}]
    words = " ".join(page.text.split())
    assert re.search(r"cat 6 0\.450 \[[^]]+\] 0\.750 \[[^]]+\] \+0\.300 \[\+0\.300, ", words)
    assert words.index("cat 6") < words.index("zebra 6")
    assert HOSTILE in page.text
    assert len([a for a in page.all("table") if a.get("class") == "sortable"]) == 2


def test_headline_figures_ledger_and_provenance_are_there(tmp_path):
    _, page = report(tmp_path)
    words = " ".join(page.text.replace("\xa0", " ").split())
    summary = {(row.metric, row.variant.name): row for row in figures()}
    for row in summary.values():
        assert f"{row.value:.3f}" in words
        assert f"{row.ci_low:+.3f}" in words or f"{row.ci_low:.3f}" in words
    assert "var helps" in words
    assert "var hurts" in words  # deletion: lower is better
    assert "7 x empty map" in words
    assert "chance 0.250" in words
    assert "cat (0.98)" in words
    assert "method: gbp" in words
    assert "devicecpu" in words
    assert words.index("grid_pointing_game") < words.index("deletion_auc")


def test_everything_given_is_escaped(tmp_path):
    panels = [sample(0, classes=(HOSTILE, "dog"))]
    text, page = report(
        tmp_path,
        title=HOSTILE,
        summary=figures(metrics=(HOSTILE,), refiner=HOSTILE),
        traits={HOSTILE: Traits(True)},
        chance={HOSTILE: 0.5},
        panels=panels,
        curves=[Curves(HOSTILE, HOSTILE, HOSTILE, [0, 1], {HOSTILE: [0, 1]})],
        config_yaml=HOSTILE,
        facts={HOSTILE: HOSTILE},
    )
    assert "<script>a_balert" not in text
    assert page.text.count(HOSTILE) >= 12
    assert any(HOSTILE in attributes["alt"] for attributes in page.all("img"))


def test_controls_stand_apart(tmp_path):
    _, page = report(tmp_path)
    bodies = [attributes["class"] for attributes in page.all("tbody")]
    assert bodies == ["bases", "controls", "differences"] * 2


def test_page_can_be_walked_by_keyboard_and_screen_reader(tmp_path):
    _, page = report(tmp_path)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    names = [a["id"] for _, a in page.elements if "id" in a]
    assert len(names) == len(set(names))
    targets = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    assert set(targets) <= set(names)
    assert {a["href"][1:] for a in page.all("a")} < set(names)
    labels = {a["for"] for a in page.all("label") if "for" in a}
    assert labels == {a["id"] for tag in ("input", "select") for a in page.all(tag) if "id" in a}
    assert page.all("pre")[0]["tabindex"] == "0"
    assert all("scope" in attributes for attributes in page.all("th"))


def test_matrices_are_tables_with_an_undefined_entry_left_open(tmp_path):
    given = MeanMatrix(HOSTILE, "class", "cell", {"base": [[0.75, 0.25], [float("nan"), 1.0]]})
    _, page = report(tmp_path, matrices=[given])
    words = " ".join(page.text.split())
    assert f"{HOSTILE} rows: class, columns: cell" in words
    assert "1 0.75 0.25 2 \N{EN DASH} 1.00" in words
    depths = [a["style"] for a in page.all("td") if a.get("style", "").startswith("--depth")]
    assert depths == [f"--depth: {depth}%" for depth in (75, 25, 0, 100)]


def luminance(colour):
    """Relative luminance of "#rrggbb", WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(tmp_path, theme):
    text, _ = report(tmp_path)
    blocks = re.findall(r":root \{([^}]*--ink[^}]*)\}", text)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme]))
    for ground in ("paper", "card", "shade"):
        for ink in ("ink", "soft", "accent", "better", "worse"):
            pair = sorted((luminance(colours[ground]), luminance(colours[ink])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ground, ink)


def test_page_without_pictures_curves_or_refiners(tmp_path):
    bare = [row for row in figures() if row.variant.name == "base"]
    _, page = report(tmp_path, summary=bare, panels=[], curves=[], facts={})
    assert page.all("img") == []
    assert "Verdict" not in page.text
    assert f"{bare[0].value:.3f}" in page.text


def test_undefined_figures_are_said(tmp_path):
    rows = [
        Row(f"id-{i}", 0, "m", named(v), float("nan"), "empty_region")
        for i in range(3)
        for v in VARIANTS
    ]
    summary = summarise(rows)
    text, page = report(tmp_path, summary=summary, traits={"m": Traits(True)}, chance=None)
    assert "no verdict, too few samples" in page.text
    assert "undefined" in page.text
    assert not re.search(
        r"\bnan\b", re.sub(r"base64,[^\")]*|<script.*?</script>", "", text, flags=re.S)
    )


def test_a_thousand_classes_stay_light_and_what_is_left_out_is_said(tmp_path):
    metrics = [f"measure_{i}" for i in range(5)]
    figure = {
        variant: SummaryRow("m", named(variant), 0.123456789, 0.1, 0.2, 1000)
        for variant in ("base", "var", "var-base")
    }
    rows = [
        ClassFigures(
            f"a class with a long name {i}",
            figure["base"],
            {"var": (figure["var"], figure["var-base"])},
        )
        for i in range(1000)
    ]
    summary = figures(metrics=metrics)
    text, page = report(
        tmp_path,
        summary=summary,
        traits=dict.fromkeys(metrics, Traits(True)),
        classes=dict.fromkeys(metrics, rows),
    )
    assert len(text) < 2_500_000  # pictures may take the rest of 10 MB
    assert len(page.all("details")) == 3 + 1  # and the legend of the pictures
    assert "measure_3, measure_4 are left out here" in " ".join(page.text.split())


@pytest.mark.parametrize(
    ("count", "classes", "refiners"), [(8, 4, 1), (8, 9, 4), (24, 4, 1)], ids=str
)
def test_pages_stay_light_however_much_there_is_to_draw(tmp_path, count, classes, refiners):
    names = [f"class {i}" for i in range(classes)]
    refined = [f"var{i}" for i in range(refiners)]
    panels = [sample(i, size=224, classes=names, refiners=refined) for i in range(count)]
    text, _ = report(tmp_path, panels=panels)
    assert len(text) < 7_500_000  # tables may take the rest of 10 MB


def test_same_input_same_page(tmp_path):
    assert report(tmp_path)[0] == report(tmp_path)[0]


def test_a_metric_without_direction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must have a direction"):
        report(tmp_path, traits={})
