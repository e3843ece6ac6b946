"""What is said of several runs, from rows made so that the answer is known."""

import numpy as np
import pytest
from named_variants import variant

from var_exp.metrics.base import Traits
from var_exp.results.comparison import Run, compare
from var_exp.results.headlines import entries, headlines
from var_exp.results.rows import Row
from var_exp.results.significance import class_scores, pictures_needed
from var_exp.results.summary import summarise

UP = Traits(higher_is_better=True)


def run(label, gain, *, count=40, noise=0.05, empty=False, control=-0.5):
    """A run of one class per picture."""
    generator = np.random.default_rng(abs(hash_of(label)))
    rows = []
    for i in range(count):
        base = generator.uniform(0.3, 0.5)
        refined = 0.0 if empty else base + gain + noise * generator.standard_normal()
        rows += [
            Row(f"s{i}", 0, "game", variant("base"), base),
            Row(f"s{i}", 0, "game", variant("var"), refined, "empty_map" if empty else ""),
            Row(f"s{i}", 0, "game", variant("var_same_sparsity"), refined + control),
        ]
    return Run({"method": label}, summarise(rows), class_scores(rows))


def hash_of(label):
    return sum(ord(letter) * 31**place for place, letter in enumerate(label))


def said(*runs, traits=UP):
    (headline,) = headlines(compare(runs, {"game": traits}), "game")
    return str(headline)


def test_a_decided_sweep():
    runs = [run("gbp", 0.5), run("ig", 0.4, control=0.0), run("gradcam", -0.3)]
    assert said(*runs) == ("game: var helps in 2 of 3 runs, in 1 beyond sparsity; hurts in 1")


def test_eight_pictures_cannot_decide():
    """Sixteen tests, all with a difference that no one would doubt: not "helps in 0 of 16"."""
    runs = [run(f"m{i}", 0.5, count=8) for i in range(16)]
    assert said(*runs) == "game: var in 16 runs: 8 pictures cannot decide; needed: 10"


def test_what_is_open_after_the_correction_says_how_many_pictures_to_take():
    clear, close = run("gbp", 0.5), [run(f"m{i}", 0.015) for i in range(7)]
    comparison = compare([clear, *close], {"game": UP})
    found = entries(comparison, "game")
    assert [entry.state for entry in found] == ["better"] + ["open"] * 7
    (headline,) = headlines(comparison, "game")
    needed = sorted(entry.test.needed for entry in found[1:])
    assert str(headline) == (
        "game: var helps in 1 of 8 runs, in 1 beyond sparsity; hurts in 0; "
        f"in 7, 40 pictures cannot decide after correction; needed: {needed[0]:,} to {needed[-1]:,}"
    )
    test = found[1].test
    gaps = [found[1].run.scores["game", "var"][f"s{i}", 0] for i in range(40)]
    gaps = np.subtract(gaps, [found[1].run.scores["game", "base"][f"s{i}", 0] for i in range(40)])
    assert test.needed == pictures_needed(gaps.mean(), gaps.std(ddof=1), tests=8)


def test_a_run_whose_maps_are_all_empty_is_said_to_be_so():
    runs = [run("gbp", 0.5), run("lrp", 0, empty=True)]
    assert said(*runs).endswith("hurts in 0; in 1 every refined map is empty")
    assert said(runs[1]) == "game: var in 1 run: in 1 every refined map is empty"


def test_a_measure_that_rewards_sparsity_gives_no_verdict():
    sparse = Traits(higher_is_better=True, rewards_sparsity=True)
    sentence = said(run("gbp", 0.5), run("ig", 0.5), traits=sparse)
    assert sentence == "game: var in 2 runs: no verdict, the measure rewards sparsity by definition"


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_typical_and_best(gain):
    (headline,) = headlines(compare([run("a", gain), run("b", 0.9)], {"game": UP}), "game")
    assert headline.best.run.name == "b"
    assert headline.typical == pytest.approx((gain + 0.9) / 2, abs=0.02)
