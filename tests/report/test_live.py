"""The page's arithmetic is that of `VAR` on the maps that the page holds."""

import base64
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from py_mini_racer import MiniRacer

import var_exp.report
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.refine.var import VAR, class_distribution, entropy_map, winner_map
from var_exp.report.live import live_data, live_samples, to_halves
from var_exp.report.panels import Panel

OURS = Path(var_exp.report.__file__).with_name("competition.js")
SCRIPT = Path(os.environ.get("VAR_EXP_SCRIPT") or OURS).read_text()  # another: .ci/mutants.py


@pytest.fixture(scope="module")
def engine():
    """V8 with the script of the page."""
    engine = MiniRacer()
    engine.eval(SCRIPT)
    return engine


def calculate(engine, expression):
    """Value of a JavaScript expression; typed arrays as lists, what is not finite as None."""
    write = "(name, value) => ArrayBuffer.isView(value) ? [...value] : value"
    return json.loads(engine.eval(f"JSON.stringify({expression}, {write})"))


def numbers(tensor):
    return f"new Float64Array({json.dumps(tensor.flatten().tolist())})"


def sizes(maps, chosen=None):
    """Sizes of the whole maps as the page tells them, of the classes that compete."""
    (sample,) = live_data([panel(maps)])["samples"]
    places = range(len(maps)) if chosen is None else chosen
    return json.dumps({way: [each[k] for k in places] for way, each in sample["sizes"].items()})


def panel(maps, kind="", settings=None, regions=None, asked=None):
    return Panel(
        "a sample",
        torch.zeros(3, *maps.shape[2:], dtype=torch.uint8),
        [f"class {i}" for i in range(len(maps))],
        asked or len(maps),
        {"base": maps},
        regions,
        kind=kind,
        competition=settings or VAR(),
    )


def halves_of(sample):
    """The words of the maps of a sample."""
    return np.frombuffer(base64.b64decode(sample["maps"]), "<u2").tolist()


def stored(sample):
    """The maps of a sample as the page holds them, decoded by NumPy."""
    halves = np.frombuffer(base64.b64decode(sample["maps"]), "<f2").astype(np.float64)
    shape = (len(sample["classes"]), sample["channels"], *sample["size"])
    return torch.from_numpy(halves * sample["unit"]).reshape(shape)


OPTIONS = [
    {"temperature": t, "tau": tau, "magnitude": m, "scale": s, "channels": c}
    for (t, tau), m, s, c in itertools.product(
        [(10.0, 0.01), (300.0, 0.0), (0.5, 0.2)],
        ["abs", "signed", "positive"],
        ["none", "max", "rms", "class_rms"],
        ["separate", "sum"],
    )
]


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [2, 0], [1, 2, 3]])
def test_the_script_competes_as_python_does(engine, chosen):
    maps = 0.3 * torch.randn(4, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    maps[:, :, :2] = 0  # nothing there: all classes level
    maps[1, :, 3] = maps[2, :, 3]  # two classes level
    maps[:, :, 4] = maps[0, :, 4]  # all level at something: exactly on the gate where tau is 0
    (sample,) = live_data([panel(maps)])["samples"]
    given = stored(sample)[chosen]
    assert (given - maps[chosen]).abs().max() < 5e-4 * maps.abs().max()
    shape = [len(chosen), 3, 63]
    for options in OPTIONS:
        call = (
            f"Competition.compete({numbers(given)}, {shape}, {sizes(given)}, {json.dumps(options)})"
        )
        found = calculate(engine, call)
        kept = VAR(**options)(given[None])[0]
        shares = class_distribution(
            given[None], options["temperature"], *list(options.values())[2:]
        )[0]
        assert found["channels"] == kept.shape[1]
        np.testing.assert_allclose(found["kept"], kept.flatten(), atol=1e-12)
        np.testing.assert_allclose(found["shares"], shares.flatten(), atol=1e-12)


@pytest.mark.parametrize("scale", ["none", "max", "rms", "class_rms"])
def test_maps_without_any_evidence_are_level(engine, scale):
    maps = torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    options = json.dumps(OPTIONS[0] | {"scale": scale})
    call = f"Competition.compete({numbers(maps)}, [3, 1, 4], {sizes(maps)}, {options})"
    found = calculate(engine, call)
    np.testing.assert_allclose(found["shares"], [1 / 3] * 12, rtol=1e-12)
    assert found["kept"] == [0] * 12


def test_halves_are_read_as_numpy_reads_them(engine):
    found = calculate(
        engine,
        "[...Competition.fromHalves(Uint16Array.from({length: 65536}, (_, i) => i), 0.5)]"
        ".map((x) => Number.isFinite(x) ? x : String(x).replace('Infinity', 'inf'))",
    )
    words = np.arange(65536, dtype=np.uint16).view(np.float16)
    expected = [0.5 * float(word) for word in words]
    np.testing.assert_array_equal([float(number) for number in found], expected)


def test_what_is_not_finite_stays_visible(engine):
    maps = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    maps[1, 0, 0, 0] = torch.nan
    options = dict(OPTIONS[0])
    for scale in ("none", "rms", "max", "class_rms"):
        options["scale"] = scale
        call = (
            f"Competition.compete({numbers(maps)}, [3, 1, 4], {sizes(maps)}, {json.dumps(options)})"
        )
        found = calculate(engine, call)
        expected = VAR(**options)(maps[None])[0].flatten()
        assert [value is None for value in found["kept"]] == expected.isnan().tolist()
    infinite = torch.tensor([torch.inf, 1.0]).double().view(2, 1, 1, 1)
    assert json.loads(sizes(infinite))["sum"][0] == {"max": "Infinity", "rms": "Infinity"}
    assert json.loads(sizes(maps))["sum"][1] == {"max": "NaN", "rms": "NaN"}


def test_winner_and_entropy_of_the_distribution(engine):
    shares = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(2)).double().softmax(0)
    shares[:, :, 0] = 0.25
    shares[:, :, 1] = torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None, None]
    found = calculate(engine, f"Competition.distribution({numbers(shares)}, [4, 3, 25])")
    mean = shares.mean(1)[None, :, None]
    assert found["winner"] == winner_map(mean).flatten().tolist()
    np.testing.assert_allclose(found["entropy"], entropy_map(mean).flatten(), atol=1e-12)


def test_share_inside_a_region_is_the_grid_pointing_game(engine):
    maps = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(3)).double()
    region = torch.zeros(1, 6, 6, dtype=torch.bool)
    region[:, 1:4, 2:] = True
    flags = json.dumps(region.flatten().int().tolist())
    found = calculate(engine, f"Competition.inside({numbers(maps)}, {flags})")
    assert found == pytest.approx(grid_pointing_game(maps, region).item(), abs=1e-12)
    assert calculate(engine, "Competition.inside([0, -1], [1, 1])") is None
    assert calculate(engine, "Competition.inside([3, 1], [1, 0])") == 0.75  # the first pixel, too


def test_regions_are_bits_of_the_pixels():
    regions = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(4)) > 0.5
    maps = torch.randn(3, 1, 5, 7)
    (sample,) = live_data([panel(maps, regions=regions, asked=2)])["samples"]
    for text, region in zip(sample["regions"], regions, strict=True):
        bits = np.unpackbits(
            np.frombuffer(base64.b64decode(text), np.uint8), bitorder="little", count=35
        )
        assert bits.tolist() == region.flatten().int().tolist()
    assert live_data([panel(maps)])["samples"][0]["regions"] is None


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_any_units_survive_half_precision(size):
    maps = size * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(5)).double()
    text, unit = to_halves(maps)
    back = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float64) * unit
    assert np.abs(back - maps.flatten().numpy()).max() < 5e-4 * maps.abs().max()
    assert to_halves(torch.zeros(2)) == (base64.b64encode(bytes(4)).decode(), 1.0)


def test_of_many_large_maps_every_nth_pixel_is_kept_as_it_is():
    maps = torch.randn(9, 3, 240, 210, generator=torch.Generator().manual_seed(6))
    data = live_data([panel(maps)] * 4)
    step = data["step"]
    assert step > 1
    assert len(json.dumps(data)) < 3_200_000
    sample = data["samples"][0]
    assert sample["size"] == (240 // step, 210 // step)
    rest = step // 2
    kept = maps[..., rest::step, rest::step]
    assert (stored(sample) - kept).abs().max() < 5e-4 * kept.abs().max()
    assert sample["scale"] == panel(maps).scale  # of the whole maps
    assert live_data([panel(maps[:2, :1, :64, :64])])["step"] == 1


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [3, 1]])
@pytest.mark.parametrize(
    "settings",
    [
        VAR(temperature=3.0, scale="rms", magnitude="signed", channels="sum"),
        VAR(temperature=3.0, scale="max", channels="separate"),
        VAR(),
    ],
    ids=["scaled", "max", "paper"],
)
def test_at_the_size_of_photographs_the_page_shows_the_shares_of_the_run(engine, chosen, settings):
    """Gradients of changing sign, 448 x 448: averages of blocks would cancel to nothing."""
    generator = torch.Generator().manual_seed(7)
    maps = torch.randn(4, 3, 448, 448, generator=generator)
    maps *= torch.linspace(0.02, 1.0, 448) * torch.tensor([1.0, 0.9, 0.8, 0.7])[:, None, None, None]
    data = live_data([panel(maps, settings=settings)] * 3)
    step, sample = data["step"], data["samples"][0]
    assert step == 3
    of_run = settings.distribution(maps[None, chosen])[0]
    kept_of_run = settings(maps[None, chosen])[0]
    size = sample["size"]
    rows = ((torch.arange(size[0]) + 0.5) * 448 / size[0]).long()
    assert size == (150, 150)
    assert (rows.diff() >= 2).all()
    of_run, kept_of_run = (x[:, :, rows][..., rows] for x in (of_run, kept_of_run))
    engine.eval(
        f"""
        var words = new Uint16Array({json.dumps(halves_of(sample))});
        var maps = Competition.fromHalves(words, {sample["unit"]});
        var chosen = {json.dumps(chosen)};
        var size = {3 * size[0] * size[1]};
        var some = new Float64Array(chosen.length * size);
        chosen.forEach((k, i) => some.set(maps.subarray(k * size, (k + 1) * size), i * size));
        """
    )
    call = (
        f"Competition.compete(some, [{len(chosen)}, 3, {size[0] * size[1]}], "
        f"{sizes(maps, chosen)}, {json.dumps(sample['settings'])})"
    )
    found = calculate(engine, call)
    shares = torch.tensor(found["shares"]).view(of_run.shape)
    kept = torch.tensor(found["kept"]).view(of_run.shape)
    # what is left is half precision: T |A| / unit to 2^-11
    assert (shares - of_run).abs().max() < 0.01
    assert (shares - of_run).abs().mean() < 5e-4
    agrees = (kept != 0) == (kept_of_run != 0)
    assert agrees.float().mean() > 0.999
    assert (kept - kept_of_run)[agrees].abs().max() < 0.02 * maps.abs().max()


def test_the_first_of_each_kind_is_played_with():
    one = torch.zeros(2, 1, 4, 4)
    panels = [panel(one, kind) for kind in ("random", "random", "best", "worst", "best")]
    assert live_samples(panels) == [0, 2, 3]
    alone = panel(torch.zeros(1, 1, 4, 4), "worst")
    assert live_samples([alone, *panels]) == [1, 3, 4]
    assert live_samples([alone, *panels] * 9, every=True) == [1, 2, 3, 4, 5, 7, 8, 9]


def test_the_script_starts_from_the_settings_of_the_run():
    settings = VAR(temperature=7.0, tau=0.125, scale="rms", channels="sum", magnitude="signed")
    (sample,) = live_data([panel(torch.zeros(2, 1, 4, 4), settings=settings)])["samples"]
    assert VAR(**json.loads(json.dumps(sample["settings"]))) == settings
