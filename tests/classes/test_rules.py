import pytest
import torch

from var_exp.classes import (
    ClassMapping,
    ClassNames,
    Given,
    PublishedTopK,
    Random,
    Siblings,
    TopK,
    TopKAndLeast,
    random_others,
)
from var_exp.conf_files import aliases
from var_exp.registry import from_alias
from var_exp.types import ConfigError

LOGITS = torch.tensor([[0.0, 5.0, 1.0, 4.0, -2.0, 3.0], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]])


def ask(*rows):
    return torch.tensor(rows)


def test_given():
    classes = ask([1, 2], [3, 0])
    assert torch.equal(Given()(LOGITS, classes), classes)
    with pytest.raises(ConfigError, match="use classes=top_k"):
        Given()(LOGITS, classes[:, :1])


def test_top_k_fills_up_with_the_most_likely_others():
    assert TopK(k=3)(LOGITS, ask([3], [5])).tolist() == [[3, 1, 5], [5, 0, 1]]
    assert TopK(k=3)(LOGITS, ask([4, 1], [0, 1])).tolist() == [[4, 1, 3], [0, 1, 2]]
    four = ask([0, 1, 2, 3], [5, 4, 3, 2])
    assert torch.equal(TopK(k=3)(LOGITS, four), four)


def test_top_k_ties_by_index():
    assert TopK(k=4)(torch.zeros(1, 9), ask([5])).tolist() == [[5, 0, 1, 2]]


def test_top_k_and_least_is_the_papers_set():
    """The k most likely and the least likely, for a target among the k most likely."""
    for target in (1, 3):
        (row,) = TopKAndLeast(k=2)(LOGITS[:1], ask([target])).tolist()
        assert row[0] == target
        assert set(row) == {1, 3, 4}


def published_set(logits, target, k):
    """What the paper's code does, step by step, on Python lists."""
    order = sorted(range(len(logits)), key=lambda label: -logits[label])
    chosen = [*order[:k], order[-1]]
    if target not in chosen:
        chosen = [target, *chosen[:3]]
    return chosen[: k + 1]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_published_top_k_equals_the_steps_of_the_published_code(k):
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for target in range(7):
        found = PublishedTopK(k)(logits, torch.full((5, 1), target)).tolist()
        for row, scores in zip(found, logits.tolist(), strict=True):
            assert row[0] == target
            assert len(row) == k + 1
            assert set(row) == set(published_set(scores, target, k))


def test_published_top_k_by_hand():
    assert PublishedTopK()(LOGITS, ask([3], [4])).tolist() == [[3, 1, 4], [4, 0, 1]]
    assert PublishedTopK()(LOGITS, ask([4], [5])).tolist() == [[4, 1, 3], [5, 0, 1]]  # the least


def test_published_top_k_refuses_what_has_no_constant_size():
    # the code's own sizes for k = 4: all five where the target is in the set, else four
    assert {len(published_set(LOGITS[0].tolist(), t, 4)) for t in range(6)} == {4, 5}
    for k in (0, 4):
        with pytest.raises(ConfigError, match=f"must be 1, 2 or 3 .* got {k}"):
            PublishedTopK(k)
    with pytest.raises(ConfigError, match="2 are asked about together; use layout=single"):
        PublishedTopK()(LOGITS, ask([3, 1], [0, 5]))
    with pytest.raises(ConfigError, match="3 classes cannot compete in a model of 2"):
        PublishedTopK()(LOGITS[:, :2], ask([1], [0]))


def test_top_k_and_least_has_constant_size_whatever_overlaps():
    assert TopKAndLeast(k=2)(LOGITS, ask([5], [0])).tolist() == [[5, 1, 4], [0, 1, 5]]
    assert TopKAndLeast(k=2)(LOGITS[:1], ask([4])).tolist() == [[4, 1, 0]]  # asked for the least
    assert TopKAndLeast(k=2)(LOGITS[:1], ask([4, 0, 1])).tolist() == [[4, 0, 1, 2]]


def test_random_depends_on_the_id_alone():
    rule = Random(k=4, seed=3)
    both = rule(LOGITS, ask([1], [1]), ["x", "y"])
    assert torch.equal(rule(LOGITS[1:], ask([1]), ["y"]), both[1:])
    unnamed = rule(LOGITS, ask([1], [1]), None)
    assert torch.equal(unnamed[0], unnamed[1])
    draws = {tuple(rule(LOGITS[:1], ask([1]), [str(i)])[0].tolist()) for i in range(40)}
    assert len(draws) > 10
    assert {label for draw in draws for label in draw} == set(range(6))


def test_random_others_never_repeat_or_overlap():
    classes = ask(*[[i % 10, (i + 3) % 10] for i in range(50)])
    others = random_others(classes, 10, 8, [str(i) for i in range(50)])
    for taken, row in zip(classes.tolist(), others.tolist(), strict=True):
        assert sorted(taken + row) == list(range(10))
    assert random_others(classes, 10, 0, None).shape == (50, 0)
    with pytest.raises(ConfigError, match="need 11 classes, but the model has 10"):
        random_others(classes, 10, 9, None)


def test_random_others_are_uniform():
    ids = [str(i) for i in range(2000)]
    drawn = random_others(ask(*[[0]] * 2000), 5, 1, ids).flatten()
    counts = drawn.bincount(minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 500).abs().max() < 100  # five standard deviations


def test_siblings():
    table = torch.tensor([[1, 2], [0, 3], [3, 0], [2, 1]])
    rule = Siblings(table)
    assert rule(torch.zeros(2, 4), ask([3], [1])).tolist() == [[3, 2, 1], [1, 0, 3]]
    with pytest.raises(ConfigError, match="one asked class per image, got 2"):
        rule(torch.zeros(1, 4), ask([3, 1]))
    with pytest.raises(ConfigError, match="siblings of 4 classes and the model has 6"):
        rule(LOGITS, ask([3], [1]))


@pytest.mark.parametrize("rule", [TopKAndLeast(k=6), Random(k=7)])
def test_more_classes_than_there_are(rule):
    with pytest.raises(ConfigError, match="7 classes cannot compete in a model of 6; lower"):
        rule(LOGITS, ask([0], [1]))


def test_the_top_k_of_a_small_model_are_all_its_classes():
    assert sorted(TopK(k=7)(LOGITS, ask([0], [1]))[0].tolist()) == list(range(6))
    assert TopK(k=4)(LOGITS[:, :2], ask([1], [0])).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ConfigError, match="2 classes cannot compete in a model of 1"):
        TopK()(LOGITS[:, :1], ask([0], [0]))


@pytest.mark.parametrize(("rule", "least"), [(TopK, 2), (TopKAndLeast, 1), (Random, 2)])
def test_too_few_to_compete(rule, least):
    rule(k=least)
    with pytest.raises(ConfigError, match=f"classes.k must be at least {least}"):
        rule(k=least - 1)


@pytest.mark.parametrize("alias", aliases("classes"))
def test_asked_classes_come_first(alias):
    options = {
        "siblings": {"siblings": torch.tensor([[1, 2]] * 6)},
        "named": {"known": ClassNames(list("abcdef")), "names": ["d", "b"]},
    }.get(alias, {})
    rule = from_alias("classes", alias, **options)
    asked = ask([3], [4]) if alias in ("siblings", "published_top_k") else ask([3, 1], [0, 5])
    competing = rule(LOGITS, asked, ["a", "b"])
    assert competing.dtype == torch.int64
    assert torch.equal(competing[:, : asked.shape[1]], asked)
    assert all(len(set(row)) == len(row) >= 2 for row in competing.tolist())
    alone = rule(LOGITS[1:], asked[1:], ["b"])
    assert torch.equal(alone, competing[1:])


# six classes of a model; the data know pets (1, 3), cars (none) and birds (0, 5)
MEMBERS = torch.tensor([[0, 1, 0, 1, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 1]]).bool()


def test_classes_compete_by_what_they_mean():
    best, answering = ClassMapping(MEMBERS)(LOGITS)
    # pets, birds, and the two classes that are neither
    assert best.tolist() == [[5.0, 3.0, 1.0, -2.0], [8.0, 9.0, 7.0, 5.0]]
    assert answering.tolist() == [[1, 5, 2, 4], [1, 0, 2, 4]]
    assert ClassMapping(MEMBERS).meanings(ask([2, 0])).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="no class of the model answers"):
        ClassMapping(MEMBERS).meanings(ask([1]))


def test_the_best_member_answers_and_no_other_member_competes():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=generator)
    best, answering = ClassMapping(MEMBERS)(logits)
    for k in (2, 3, 4):
        competing = TopK(k)(best, ClassMapping(MEMBERS).meanings(ask([0]).expand(50, 1)))
        classes = answering.gather(1, competing)
        for row, scores in zip(classes.tolist(), logits.tolist(), strict=True):
            assert row[0] == max((1, 3), key=lambda label: scores[label])
            others = sorted(
                {0, 2, 4, 5} - {min((0, 5), key=lambda label: scores[label])},
                key=lambda label: -scores[label],
            )
            assert row[1:] == others[: k - 1]


def test_the_first_of_equal_members_answers():
    equal = torch.zeros(1, 6)
    assert ClassMapping(MEMBERS)(equal)[1].tolist() == [[1, 0, 2, 4]]


def test_without_members_nothing_changes():
    best, answering = ClassMapping()(LOGITS)
    assert torch.equal(best, LOGITS)
    assert answering.tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert torch.equal(ClassMapping().meanings(ask([4])), ask([4]))


def test_no_class_answers_for_two():
    with pytest.raises(ValueError, match="can answer for one class of the data only"):
        ClassMapping(torch.ones(2, 3).bool())
