"""Grids of pictures that the model is sure of; what was asked once is not asked again."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from var_exp.data.confidence import confidences
from var_exp.data.layouts import Grid
from var_exp.types import ConfigError, InputSpec, Sample, SampleDataset, Unreadable

SPEC = InputSpec(size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
CLASSES = 6


class Patterns(SampleDataset):
    """Picture i is of class i mod 6; noise on a channel-wise pattern of the class."""

    class_names = tuple("abcdef")

    def __init__(self, count=60, shift=0.0, broken=()):
        self.count, self.shift, self.broken = count, shift, broken

    def __len__(self):
        return self.count

    def label(self, index):
        return index % CLASSES

    def sample_id(self, index):
        return f"pattern {index}"

    def __getitem__(self, index):
        if index in self.broken:
            raise Unreadable("broken")
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 4, 4, generator=generator) * 0.6 + self.shift
        image.view(-1)[self.label(index)] += 0.4
        return Sample(image, torch.tensor([self.label(index)]), None, self.sample_id(index))


class Asked(nn.Module):
    """A linear model that counts the pictures it is shown."""

    def __init__(self, scale=6.0):
        super().__init__()
        self.last = nn.Linear(48, CLASSES, bias=False)
        self.last.weight.data = scale * torch.eye(CLASSES, 48)
        self.seen = 0

    def get_classifier(self):
        return self.last

    def forward(self, images):
        self.seen += len(images)
        return self.last(images.flatten(1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_EXP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plain(data, model):
    """The same by a loop over single pictures."""
    found = []
    for index in range(len(data)):
        logits = model(((data[index].image - 0.5) / 0.5)[None])[0]
        right = int(logits.argmax()) == data.label(index)
        found.append(torch.softmax(logits, 0).max().item() if right else 0.0)
    return found


def test_confidences_are_those_of_a_plain_loop():
    data, model = Patterns(), Asked()
    expected = plain(data, model)
    assert 0.0 in expected
    assert max(expected) > 0.9
    assert confidences(data, model, SPEC) == pytest.approx(expected)


def test_a_second_run_asks_nothing_and_gets_the_same(cache):
    model = Asked()
    first = confidences(Patterns(), model, SPEC)
    assert model.seen == 60
    assert confidences(Patterns(), model, SPEC) == first
    assert model.seen == 60
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("count", "places"), [(5, range(5)), (60, range(0, 60, 7)), (66, range(0, 66, 8))]
)
def test_eight_pictures_or_one_more_say_whether_the_data_are_the_same(count, places):
    looked_at = []

    class Watched(Patterns):
        def __getitem__(self, index):
            looked_at.append(index)
            return super().__getitem__(index)

    model, data = Asked(), Watched(count)
    confidences(data, model, SPEC)
    looked_at.clear()
    confidences(data, model, SPEC)
    assert looked_at == list(places)


@pytest.mark.parametrize(
    ("data", "model", "spec"),
    [
        (Patterns(shift=0.01), Asked(), SPEC),  # other pixels
        (Patterns(count=61), Asked(), SPEC),
        (Patterns(), Asked(scale=6.01), SPEC),  # other weights
        (Patterns(), Asked(), InputSpec(size=4, mean=(0.4,) * 3, std=(0.5,) * 3)),
    ],
)
def test_whatever_decides_the_answers_is_asked_anew(data, model, spec):
    confidences(Patterns(), Asked(), SPEC)
    confidences(data, model, spec)
    assert model.seen == len(data)


def test_other_labels_on_the_same_pictures_are_asked_anew():
    class Relabelled(Patterns):
        def label(self, index):
            return 0

        def __getitem__(self, index):
            return replace(Patterns()[index], classes=torch.tensor([0]))

    confidences(Patterns(), Asked(), SPEC)
    expected = plain(Relabelled(), Asked())
    assert confidences(Relabelled(), Asked(), SPEC) == pytest.approx(expected)
    assert expected != plain(Patterns(), Asked())


def test_the_cache_is_in_the_home_unless_the_environment_says_where(tmp_path, monkeypatch):
    monkeypatch.delenv("VAR_EXP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    confidences(Patterns(), Asked(), SPEC)
    assert len(list((tmp_path / ".cache" / "var_exp").glob("confidence-*.json"))) == 1


def test_grids_hold_the_sure_pictures_only_each_once():
    data, model = Patterns(), Asked()
    sure = {i for i, value in enumerate(plain(data, model)) if value >= 0.9}
    grid = Grid(data, SPEC, confidence=0.9, model=model)
    used = [cell for cells in grid.cells for cell in cells]
    assert 0 < len(sure) < 60
    assert set(used) <= sure
    assert len(set(used)) == len(used)
    assert all(len({data.label(cell) for cell in cells}) == 4 for cells in grid.cells)
    assert grid.notes == {"pictures classified correctly with confidence 0.9": f"{len(sure)} of 60"}
    assert Grid(data, SPEC, confidence=0.9, model=model, count=1).cells == grid.cells[:1]


def test_a_picture_that_is_as_sure_as_asked_is_taken():
    data, model = Patterns(), Asked()
    found = sorted(confidences(data, model, SPEC), reverse=True)
    (label,) = Grid(data, SPEC, confidence=found[23], model=model).notes.values()
    assert found[22] > found[23] > found[24]
    assert label == "24 of 60"


def test_unreadable_pictures_are_sure_to_be_left_out():
    data, model = Patterns(broken={0, 1, 2}), Asked(scale=50.0)
    grid = Grid(data, SPEC, confidence=0.01, model=model)
    assert not {0, 1, 2} & {cell for cells in grid.cells for cell in cells}
    assert confidences(data, model, SPEC)[:3] == [0.0, 0.0, 0.0]


def test_a_cache_that_cannot_be_written_costs_only_time(cache, caplog):
    cache.write_text("a file in its place")
    data, model = Patterns(), Asked()
    assert confidences(data, model, SPEC) == pytest.approx(plain(data, Asked()))
    assert "set VAR_EXP_CACHE" in caplog.text


@pytest.mark.parametrize("odd", [1.5, -0.5, "x", None])
def test_a_cache_that_cannot_be_is_asked_anew(cache, odd):
    model = Asked()
    first = confidences(Patterns(), model, SPEC)
    (file,) = cache.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pattern 7": odd}))
    assert confidences(Patterns(), model, SPEC) == first
    assert model.seen == 120


def test_related_classes_meet():
    class Families(Patterns):
        class_names = tuple("abcdefgh")

        def label(self, index):
            return index % 8

    model = Asked()
    weights = torch.eye(8, 48)
    weights[0::2, 10] = weights[1::2, 11] = 2.0  # even and odd classes are alike
    model.last = nn.Linear(48, 8, bias=False)
    model.last.weight.data = weights
    data = Families(count=64)
    related = Grid(data, SPEC, related=True, model=model)
    assert len(related) == 16
    for cells in related.cells:
        assert len({data.label(cell) % 2 for cell in cells}) == 1
    mixed = [{data.label(cell) % 2 for cell in cells} for cells in Grid(data, SPEC).cells]
    assert {0, 1} in mixed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"confidence": 1.0}, "layout.confidence must lie between 0 and 1"),
        ({"confidence": 0.0}, "layout.confidence must lie between 0 and 1"),
        ({"confidence": 0.9, "model": None}, "needs a model"),
        ({"confidence": 0.9999}, "use a smaller layout.n or layout.confidence"),
        ({"related": True, "model": None}, "layout.related needs a model whose last layer"),
        ({"related": True, "model": nn.Flatten()}, "layout.related needs a model"),
    ],
)
def test_what_cannot_be_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Grid(**{"dataset": Patterns(), "spec": SPEC, "model": Asked(), **options})


def test_data_and_model_must_belong_together():
    data = Patterns()
    data.class_names = ("a", "b")
    with pytest.raises(ConfigError, match="the model has 6 classes and the data 2"):
        confidences(data, Asked(), SPEC)
    data.members = torch.ones(2, 6).bool()
    with pytest.raises(ConfigError, match="needs data with the model's own classes"):
        confidences(data, Asked(), SPEC)
