"""Pictures that are asked about other classes than their labels."""

import pickle

import pytest
import torch

from var_exp.classes import ClassNames, Named
from var_exp.data.critters import CLASS_NAMES, Critters
from var_exp.data.questions import AskedAbout, check_pictures
from var_exp.types import ConfigError

KNOWN = ClassNames(CLASS_NAMES)


def test_every_picture_is_asked_about_what_was_named():
    critters = Critters(4)
    rule = Named(KNOWN, names=[CLASS_NAMES[5], 2])
    asked = AskedAbout(critters, rule.question)
    assert len(asked) == 4
    for index in range(4):
        sample = asked[index]
        assert torch.equal(sample.image, critters[index].image)
        assert sample.classes.tolist() == [5, 2]
        assert (sample.regions, sample.scope, sample.competitors) == (None, None, None)
        assert (asked.label(index), asked.sample_id(index)) == (5, critters.sample_id(index))
    assert asked.class_names == critters.class_names
    assert torch.equal(asked.siblings, critters.siblings)  # whatever else the data offer
    copy = pickle.loads(pickle.dumps(asked))  # as loader processes get it
    assert torch.equal(copy[3].classes, asked[3].classes)
    logits, classes = torch.randn(1, 16), torch.tensor([[5, 2]])
    assert rule(logits, classes) is classes


def test_a_file_asks_about_single_pictures(tmp_path):
    critters = Critters(3)
    ids = [critters.sample_id(i) for i in range(3)]
    file = tmp_path / "questions.csv"
    file.write_text(f"\ufeff{ids[1]}, 3, {CLASS_NAMES[4]}, 9\n\n{ids[2]},1,0,\n", encoding="utf-8")
    rule = Named(KNOWN, names=[7, 8], file=str(file))
    asked = AskedAbout(critters, rule.question)
    assert [asked[i].classes.tolist() for i in range(3)] == [[7, 8], [3, 4, 9], [1, 0]]
    assert len(asked.fewest) == 2
    check_pictures(list(rule.of_picture), critters, str(file))
    with pytest.raises(ConfigError, match=f"no line for the picture '{ids[0]}'; add one, or name"):
        AskedAbout(critters, Named(KNOWN, file=str(file)).question)
    file.write_text("elsewhere.png,1,2\n")
    with pytest.raises(ConfigError, match=r"asks about 'elsewhere.png', which is not among the 3"):
        check_pictures(list(Named(KNOWN, file=str(file)).of_picture), critters, str(file))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "classes=named needs the names; add 'classes.names="),
        ({"names": [1]}, "classes.names must name two or more different classes, got"),
        ({"names": [1, CLASS_NAMES[1]]}, "two or more different classes"),
        ({"names": ["1", "no critter"]}, "no class 'no critter'"),
        ({"file": "nowhere.csv"}, "cannot read classes.file 'nowhere.csv'"),
    ],
)
def test_impossible_questions_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Named(KNOWN, **given)
