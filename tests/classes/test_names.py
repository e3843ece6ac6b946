"""Classes by what people call them."""

import pytest

from var_exp.classes import ClassNames
from var_exp.data.imagenet_classes import imagenet_names, names_of_classes, wordnet_numbers
from var_exp.types import ConfigError

IMAGENET = names_of_classes(1000)


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ("tabby", 281),
        ("Tabby_Cat", 281),  # a synonym, spelt as in a file's name
        ("n02123045", 281),
        (285, 285),
        ("285", 285),
        ("  egyptian   CAT ", 285),
        ("catamount", None),  # a synonym of two classes
        ("crane", None),  # the name of two
    ],
)
def test_imagenet_classes_are_found_by_name_synonym_wordnet_id_and_number(asked, number):
    if number is not None:
        assert IMAGENET.number(asked) == number
    else:
        with pytest.raises(ConfigError, match=f"several classes are called '{asked}'; name one by"):
            IMAGENET.number(asked)


def test_every_name_that_is_not_ambiguous_finds_its_own_class():
    names = imagenet_names()
    alone = [name for name in names if names.count(name) == 1]
    assert IMAGENET.numbers(alone) == [names.index(name) for name in alone]
    assert IMAGENET.numbers(wordnet_numbers()) == list(range(1000))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("taby", r"no class 'taby' \(did you mean 'tabby'\?\); name one of its 1000 \(tench, "),
        ("Egyptain cat", r"did you mean 'Egyptian cat'\?"),
        (1000, "there is no class 1000; the model has 1000, numbered 0 to 999"),
        ("-1", "there is no class -1"),
    ],
)
def test_a_mistake_is_answered_with_the_nearest_name(asked, message):
    with pytest.raises(ConfigError, match=message):
        IMAGENET.number(asked)


def test_who_names_a_class_of_a_network_without_names_hears_how_to_name_them():
    with pytest.raises(ConfigError, match=r"no class 'cat'.*NAME\.classes\.txt beside NAME\.pt"):
        names_of_classes(3).number("cat")
    with pytest.raises(ConfigError, match=r"or its number\.$"):
        names_of_classes(3, ["cats", "dog", "bird"]).number("dgo")


def test_a_name_made_of_digits_comes_before_a_number():
    digits = ClassNames(["1", "0", "seven"])
    assert digits.numbers(["1", 1, "2"]) == [0, 1, 2]
    assert names_of_classes(3).number("class 2") == 2


@pytest.mark.parametrize("odd", ["²", "--5", "٣", "9" * 5000, "x\n\x07", "cat" * 99_999])
def test_what_is_no_number_and_no_name_is_one_short_sentence(odd):
    with pytest.raises(ConfigError, match=r"^the model has no class '") as caught:
        ClassNames(["cat", "dog"]).number(odd)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
