"""The page in Chromium: nothing fails, nothing is fetched, and the sliders move the maps."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from named_variants import variant as named
from PIL import Image

from var_exp.metrics.base import Traits
from var_exp.refine.var import VAR
from var_exp.report.overlays import winners
from var_exp.report.page import write_report
from var_exp.report.panels import Panel
from var_exp.results.by_class import by_class
from var_exp.results.curves import Curves
from var_exp.results.rows import Row
from var_exp.results.summary import summarise

CLASSES = ("cat", "dog", "fox")
SETTINGS = VAR(temperature=25.0, tau=0.05)


def panel(place, kind):
    generator = torch.Generator().manual_seed(place)
    base = torch.randn(3, 2, 24, 32, generator=generator) * (0.1 + place)
    regions = torch.zeros(2, 24, 32, dtype=torch.bool)
    regions[0, 4:12, 3:20], regions[1, 12:, :16] = True, True
    return Panel(
        f"val-{place}",
        torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=generator),
        CLASSES,
        2,
        {"base": base, "var": SETTINGS(base[None])[0]},
        regions,
        kind=kind,
        competition=SETTINGS,
        competitions={"var": SETTINGS},
        probabilities=[0.5, 0.25, 0.125],
        shared=base.sum(1).clamp_min(0).amin(0),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A report with everything a report can have."""
    generator = np.random.default_rng(0)
    rows = [
        Row(f"val-{i}", label, "grid", named(variant), float(mean + generator.normal(0, 0.05)))
        for i in range(12)
        for label in range(3)
        for variant, mean in (("base", 0.3 + 0.1 * label), ("var", 0.9), ("random_map", 0.25))
    ]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(
        path,
        title="gbp on critters_cnn",
        summary=summarise(rows),
        traits={"grid": Traits(True)},
        panels=[panel(0, "random"), panel(1, "best"), panel(2, "best")],
        curves=[Curves("deletion", "share", "probability", [0, 0.5, 1], {"base": [1, 0.2, 0]})],
        config_yaml="method: gbp",
        facts={"device": "cpu"},
        classes=by_class(rows, CLASSES),
    )
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    """The report, opened; fails when anything went wrong in it."""
    opened = browser.new_page()
    wrong = []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert [what for what in wrong if what != address and not what.startswith("data:")] == []


def settle(page):
    """Wait until the page has drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def drawn(page, figure):
    """Pixels [K, h, w, 4] of the canvases of one figure."""
    addresses = page.evaluate(
        "(figure) => [...document.querySelectorAll(`[data-figure=${figure}] canvas`)]"
        ".map((one) => one.toDataURL())",
        figure,
    )
    pictures = [io.BytesIO(base64.b64decode(one.split(",")[1])) for one in addresses]
    return np.stack([np.asarray(Image.open(one).convert("RGBA")) for one in pictures]).astype(int)


def slide(page, name, value):
    page.locator(f"#live-{name}").evaluate(
        "(slider, value) => { slider.value = value;"
        " slider.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )
    settle(page)


def test_every_picture_is_drawn(page):
    sizes = page.evaluate("[...document.images].map((one) => one.naturalWidth)")
    assert len(sizes) == 3 * (1 + 3 + 3 * 3) + 2 + 2 + 1  # live: what is shared
    assert min(sizes) > 0
    for figure, count in (("base", 3), ("refined", 3), ("winner", 1), ("entropy", 1)):
        pictures = drawn(page, figure)
        assert len(pictures) == count
        assert all(picture[..., 3].any() for picture in pictures)
    assert page.locator("#live").is_visible()


def test_the_page_computes_what_python_computes_on_its_maps(page):
    sample = json.loads(page.locator("#live-data").text_content())["samples"][0]
    halves = np.frombuffer(base64.b64decode(sample["maps"]), "<f2").astype(np.float64)
    maps = torch.from_numpy(halves * sample["unit"]).reshape(3, 2, 24, 32)
    found = page.evaluate(
        """() => {
          const sample = JSON.parse(document.getElementById("live-data").textContent).samples[0];
          const bytes = Uint8Array.from(atob(sample.maps), (letter) => letter.charCodeAt(0));
          const maps = Competition.fromHalves(new Uint16Array(bytes.buffer), sample.unit);
          const { sizes, settings } = sample;
          return [...Competition.compete(maps, [3, 2, 768], sizes, settings).kept];
        }"""
    )
    np.testing.assert_allclose(found, SETTINGS(maps[None]).flatten(), atol=1e-9)


def colours(page, maps):
    """What the page must paint for maps [K, h, w]."""
    data = json.loads(page.locator("#live-data").text_content())
    share = (maps / data["samples"][0]["scale"]).clamp(-1, 1)
    places = share.sign() * (share.abs() ** 0.6 * 63).round() + 63
    return np.array(data["palette"])[places.int().numpy()]


def painted_as(page, settings, chosen=(0, 1, 2)):
    """Share of pixels painted in exactly the colours of Python's refined maps."""
    refined = settings(panel(0, "random").maps["base"][None, list(chosen)])[0].sum(1)
    if settings.magnitude == "signed":  # what is won by losing least is no evidence
        refined = refined.clamp_min(0)
    expected = colours(page, refined)
    found = drawn(page, "refined")[list(chosen)]
    clear = (found[..., 3] == 0) & (expected[..., 3] == 0)  # a canvas forgets what is clear
    # where hardly anything is seen, a canvas rounds its colours
    near = np.abs(found - expected).max(-1) <= np.where(expected[..., 3] < 40, 12, 4)
    return (clear | near).mean()


def test_who_wins_is_painted_as_python_paints_it(page):
    page.select_option("#live-magnitude", "signed")
    settle(page)
    settings = replace(SETTINGS, magnitude="signed")
    base = panel(0, "random").maps["base"]
    shares = settings.distribution(base[None])[0].mean(1)
    scale = panel(0, "random").scale
    expected = np.asarray(winners(shares, base.sum(1), scale)).astype(int)
    (found,) = drawn(page, "winner")
    assert np.abs(found[..., 3] - expected[..., 3]).mean() < 4
    strong = expected[..., 3] > 60
    assert strong.mean() > 0.2
    assert np.abs(found - expected)[strong][:, :3].max() <= 3
    assert not found[(base.sum(1) < 0).all(0).numpy()][:, 3].any()  # nobody has evidence there


def test_sliders_selects_and_boxes_move_the_maps_and_reset_brings_them_back(page):
    settle(page)
    first = drawn(page, "refined")
    assert painted_as(page, SETTINGS) > 0.98  # but for rounding to half precision
    slide(page, "temperature", 3)
    assert painted_as(page, VAR(temperature=1000.0, tau=0.05)) > 0.98
    assert painted_as(page, SETTINGS) < 0.9
    slide(page, "tau", 0.8)
    assert painted_as(page, VAR(temperature=1000.0, tau=0.512)) > 0.98
    page.select_option("#live-scale", "rms")
    page.select_option("#live-magnitude", "positive")
    page.select_option("#live-channels", "sum")
    settle(page)
    changed = VAR(1000.0, 0.512, magnitude="positive", scale="rms", channels="sum")
    assert painted_as(page, changed) > 0.98
    page.select_option("#live-magnitude", "signed")
    settle(page)
    signed = replace(changed, magnitude="signed", tau=0.512)
    assert painted_as(page, signed) > 0.98
    page.select_option("#live-magnitude", "positive")
    assert not page.locator("#live .map.out").count()
    page.locator(".choices input").nth(1).uncheck()
    settle(page)
    assert painted_as(page, changed, chosen=(0, 2)) > 0.98
    assert not drawn(page, "refined")[1].any()
    assert page.locator("#live [data-figure=shared].out").is_visible()  # it is of all three
    # two must remain
    assert page.locator(".choices input:disabled").count() == 2
    page.get_by_role("button", name="Settings of the run").click()
    settle(page)
    assert (drawn(page, "refined") == first).all()
    assert page.locator("output[for=live-temperature]").text_content() == "25"


def test_another_sample_can_be_chosen_by_keyboard(page):
    settle(page)
    first = drawn(page, "base")
    page.locator("[name=sample]").first.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert not (drawn(page, "base") == first).all()
    page.locator("#live-temperature").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("output[for=live-temperature]").text_content() == "25.7"


def test_tables_sort_and_opacity_reaches_every_map(page):
    names = "[...document.querySelectorAll('.sortable tbody th')].map((one) => one.textContent)"
    assert page.evaluate(names) == ["cat", "dog", "fox"]
    page.get_by_role("button", name="base", exact=True).click()
    assert page.evaluate(names) == ["fox", "dog", "cat"]
    page.locator("#gallery-opacity").fill("0.25")
    shown = "[...document.querySelectorAll('.stack > img:not(.plain), .stack > canvas')]"
    opacities = page.evaluate(f"{shown}.map((one) => getComputedStyle(one).opacity)")
    assert set(opacities) == {"0.25"}
    assert page.locator("#live-opacity").input_value() == "0.25"


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_pictures_remain(browser, address):
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(address)
    assert plain.locator(".sample img").count() == 3 * (1 + 3 + 3 * 3)
    assert plain.locator("#live").is_hidden()
    assert plain.locator("#gallery-opacity").is_hidden()
    plain.close()


def test_print_holds_the_figures_and_not_the_controls(page):
    page.emulate_media(media="print")
    assert page.locator("#live").is_hidden()
    assert page.locator("#gallery-opacity").is_hidden()
    assert page.locator(".sample").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
