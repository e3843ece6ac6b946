"""The samples shown are those that a plain look at the scores would name."""

import math
import random

import pytest
from named_variants import variant as named

from var_exp.results.rows import Row
from var_exp.results.selection import pick_at_random, pick_samples

BASE = {"a": 0.5, "b": 0.4, "c": 0.1, "d": 0.2, "e": 0.3, "f": 0.6, "g": 0.45}
REFINED = {"a": 0.9, "b": 0.3, "c": 0.8, "d": 0.7, "e": 0.35, "f": 0.65, "g": math.nan}


def rows():
    """Two classes per sample, whose mean is the number above."""
    found = [
        Row(id, label, "m", named(variant), score + shift)
        for variant, scores in (("base", BASE), ("var", REFINED), ("random_map", BASE))
        for id, score in scores.items()
        for label, shift in ((3, 0.05), (7, -0.05))
    ]
    return found + [Row(id, 3, "other", named("var"), -score) for id, score in REFINED.items()]


def pick(given=None, **changes):
    options = {"metric": "m", "higher_is_better": True, "count": 4, "seed": 0}
    return pick_samples(given or rows(), **{**options, **changes})


def by_kind(picks):
    return {pick.kind: pick.sample_id for pick in picks}


@pytest.mark.parametrize("seed", range(6))
def test_best_worst_and_most_changed_are_what_they_say(seed):
    picks = by_kind(pick(seed=seed))
    left = [id for id in REFINED if id != picks["random"] and id != "g"]
    assert picks["best"] == max(left, key=REFINED.get)
    left.remove(picks["best"])
    assert picks["worst"] == min(left, key=REFINED.get)
    left.remove(picks["worst"])
    assert picks["most changed"] == max(left, key=lambda id: abs(REFINED[id] - BASE[id]))


def test_lower_is_better_swaps_best_and_worst():
    up, down = by_kind(pick(seed=1)), by_kind(pick(seed=1, higher_is_better=False))
    assert up["random"] == down["random"]
    left = [id for id in REFINED if id not in (up["random"], "g")]
    assert down["best"] == min(left, key=REFINED.get)
    assert down["worst"] == max(left, key=REFINED.get)


def test_order_of_the_rows_does_not_matter_and_the_seed_does():
    shuffled = rows()
    random.Random(0).shuffle(shuffled)
    for found, expected in zip(pick(shuffled, count=7), pick(count=7), strict=True):
        assert (found.sample_id, found.kind) == (expected.sample_id, expected.kind)
        assert found.scores == pytest.approx(expected.scores, nan_ok=True)
    assert len({by_kind(pick(seed=seed))["random"] for seed in range(20)}) > 3


def test_each_sample_once_and_the_undefined_one_only_at_random():
    picks = pick(count=100)
    assert sorted(pick.sample_id for pick in picks) == sorted(REFINED)
    assert next(pick for pick in picks if pick.sample_id == "g").kind == "random"
    kinds = [pick.kind for pick in picks]
    assert kinds == sorted(kinds, key=["random", "best", "worst", "most changed"].index)


def test_without_refiner_the_base_map_decides_and_nothing_changes():
    picks = pick([row for row in rows() if row.variant.role != "refined"], count=7)
    assert "most changed" not in {pick.kind for pick in picks}
    first = by_kind(reversed(picks))
    left = [id for id in BASE if id != first["random"]]
    assert first["best"] == max(left, key=BASE.get)


def test_a_pick_knows_its_scores():
    (found,) = pick(count=1)
    assert found.kind == "random"
    assert found.metric == "m"
    assert found.scores["base", 3] == pytest.approx(BASE[found.sample_id] + 0.05)
    assert found.mean("base") == pytest.approx(BASE[found.sample_id])
    assert math.isnan(found.mean("absent"))


def test_ties_are_not_broken_by_name_or_order():
    level = [Row(f"{i:03d}", 0, "m", named(v), 0.5) for i in range(50) for v in ("base", "var")]
    names = [p.sample_id for seed in range(8) for p in pick(level, count=4, seed=seed)]
    assert len(set(names)) > 20


def test_none_wanted_or_none_scored():
    assert pick(count=0) == []
    assert pick([Row("a", 0, "another", named("base"), 1.0)]) == []


def test_without_scores_the_same_samples_are_random():
    alone = pick_at_random(sorted(REFINED, reverse=True), count=3, seed=5)
    first, *_ = pick(count=1, seed=5)
    assert alone[0].sample_id == first.sample_id
    assert [(p.kind, p.metric, dict(p.scores)) for p in alone] == [("random", "", {})] * 3
    assert len({p.sample_id for p in alone}) == 3
    assert math.isnan(alone[0].mean("base"))
