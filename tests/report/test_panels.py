import pytest
import torch

from var_exp.refine.var import VAR
from var_exp.report.overlays import scale_of
from var_exp.report.panels import Panel

IMAGE = torch.randint(0, 256, (3, 12, 16), dtype=torch.uint8, generator=torch.Generator())


def panel(**changes):
    regions = torch.zeros(2, 12, 16, dtype=torch.bool)
    regions[0, 2:8, 2:8] = True
    maps = {"base": torch.ones(2, 3, 12, 16), "var": torch.zeros(2, 1, 12, 16)}
    given = {"sample_id": "s", "image": IMAGE, "class_names": ["cat", "dog"], "asked": 2}
    given["regions"] = regions
    return Panel(**{**given, "maps": maps, **changes})


def test_one_scale_for_all_maps_from_the_summed_base_maps():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2, 3, 12, 16, generator=generator)
    given = panel(maps={"base": base, "var": 100 * base})
    assert given.scale == scale_of(base.sum(1))
    assert torch.equal(given.flat("base"), base.sum(1))


def test_refined_maps_are_drawn_as_they_are_on_the_scale_of_the_base():
    base = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    given = panel(maps={"base": base, "var": base / 4}, competitions={"var": VAR()})
    assert torch.equal(given.drawn("var"), given.flat("base") / 4)


def test_what_is_won_by_losing_least_is_said_and_not_drawn():
    kept = torch.zeros(3, 1, 12, 16)
    kept[0, 0, 0] = -1.0  # 16 of 192 pixels
    kept[1, 0, 0, 0], kept[1, 0, 1] = -1.0, 2.0
    signed = {"var": VAR(magnitude="signed")}
    maps = {"base": torch.ones(3, 1, 12, 16), "var": kept}
    given = panel(class_names=["cat", "dog", "fox"], maps=maps, competitions=signed)
    assert torch.equal(given.drawn("var"), kept.sum(1).clamp_min(0))
    assert torch.equal(given.flat("var"), kept.sum(1))  # the numbers stay
    assert [given.remark("var", k) for k in range(3)] == [
        "no evidence for it; loses least in 8 % of the pixels",
        "",  # in less than 1 %
        "empty map",
    ]
    kept[1, 0, 0, :4] = -1.0
    assert given.remark("var", 1) == "loses least in 2 %"
    # with |A| a negative value wins by being strong: that is evidence against the class
    strong = panel(
        class_names=["cat", "dog", "fox"], maps=maps, competitions={"var": VAR(magnitude="abs")}
    )
    assert torch.equal(strong.drawn("var"), kept.sum(1))
    assert strong.remark("var", 0) == ""


def test_what_is_too_little_to_be_seen_is_said():
    kept = torch.zeros(2, 1, 40, 50)
    kept[0, 0, 0, :6] = 1.0  # of 2000 pixels
    kept[1, 0, 0], kept[0, 0, 5:7] = 1.0, -1.0
    maps = {"base": torch.ones(2, 1, 40, 50), "var": kept}
    image = torch.zeros(3, 40, 50, dtype=torch.uint8)

    def remarks(competitions):
        given = panel(image=image, regions=None, maps=maps, competitions=competitions)
        return [given.remark("var", k) for k in range(2)]

    assert remarks({"var": VAR(magnitude="signed")}) == [
        "keeps 0.3 % of the pixels; loses least in 5 %",
        "",
    ]
    assert remarks({"var": VAR(magnitude="abs")}) == ["", ""]  # the blue is seen
    assert remarks({}) == ["", ""]  # no competition


@pytest.mark.parametrize(
    ("names", "probabilities", "asked", "sentence"),
    [
        (["Egyptian cat", "tabby"], [0.604, 0.096], 1, "Egyptian cat 0.60 rather than tabby 0.10"),
        (["a", "b", "c", "d"], (), 1, "a rather than b, c or d"),
        (["a", "b", "c"], [0.9, 0.001, 0.0], 1, "a 0.90 rather than b <0.01 or c 0.00"),
        (["a", "b", "c"], [0.3, 0.4, 0.2], 2, "b 0.40 rather than a 0.30 or c 0.20"),
        (["a"], [1.0], 1, "a 1.00"),
        (list("abcdef"), (), 1, "a rather than b, c, d, e or f"),
        (list("abcdefgh"), (), 1, "a rather than b, c, d, e or 3 others"),
    ],
)
def test_the_sentence_says_what_is_explained(names, probabilities, asked, sentence):
    maps = {"base": torch.zeros(len(names), 1, 12, 16)}
    given = panel(
        class_names=names, maps=maps, asked=asked, regions=None, probabilities=probabilities
    )
    assert given.sentence == sentence


def test_where_several_classes_are_known_to_be_there_the_sentence_is_a_question():
    assert panel().regions is not None
    assert panel(probabilities=[0.4, 0.3]).sentence == "cat 0.40 or dog 0.30?"


def test_what_is_known_to_be_in_the_picture_is_a_question():
    given = panel(class_names=["cat", "dog"], asked=2, probabilities=[0.3, 0.4])
    assert given.regions is not None
    assert given.sentence == "cat 0.30 or dog 0.40?"


def test_competitors_nobody_asked_about_have_no_region():
    three = torch.zeros(3, 1, 12, 16)
    given = panel(class_names=["cat", "dog", "fox"], maps={"base": three})
    assert torch.equal(given.region(1), given.regions[1])
    assert given.region(2) is None


def test_shares_are_those_of_the_competition_averaged_over_channels():
    base = torch.zeros(2, 2, 12, 16)
    base[0, 0, 3, 4] = 1.0  # of two channels, one is decided and the other is level
    shares = panel(maps={"base": base}, competition=VAR(temperature=50.0)).shares()
    assert shares.shape == (2, 12, 16)
    assert shares[:, 3, 4].tolist() == pytest.approx([0.75, 0.25])
    assert shares[:, 0, 0].tolist() == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="do not compete"):
        panel().shares()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": {"var": torch.zeros(2, 1, 12, 16)}}, "must have a base map"),
        ({"class_names": []}, "and a class"),
        ({"maps": {"base": torch.zeros(2, 3, 12, 9)}}, r"'base' of panel s .*\(2, 12, 16\)"),
        ({"shared": torch.zeros(3, 3)}, r"shared .* \(12, 16\) of its image, got \(3, 3\)"),
        ({"probabilities": [0.5]}, "a probability for each of its 2 classes, got 1"),
        ({"regions": torch.zeros(1, 12, 16, dtype=torch.bool)}, r"regions .* got \(1, 12, 16\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        panel(**changes)
