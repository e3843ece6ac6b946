"""Maps on disk are the maps, found by sample, class and variant."""

import csv

import numpy as np
import pytest
import torch
from safetensors import safe_open

from var_exp.methods.map_files import SavedMaps
from var_exp.results.saved_maps import MapWriter
from var_exp.types import BadData, CannotWrite

NAMES = [f"class {i}" for i in range(9)]


def batch(ids, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(9, (len(ids), 2), generator=generator)
    classes[:, 1] = (classes[:, 0] + 1) % 9
    maps = {
        name: torch.randn(len(ids), 2, channels, *size, generator=generator)
        for name, channels in (("base", 3), ("var", 1))
    }
    return ids, classes, maps


def test_every_map_is_found_as_it_was_whatever_the_process_and_the_size(tmp_path):
    batches = [batch(("b", "é/a"), (4, 6)), batch(("c",), (5, 5), 1)]
    for written in batches:  # each by a process of its own
        MapWriter(tmp_path / "maps").write(*written)
    MapWriter(tmp_path / "maps").write_index(["é/a", "b", "c"], NAMES)
    saved = SavedMaps(tmp_path / "maps")
    assert len(saved) == 3 * 2 * 2
    for ids, classes, maps in batches:
        for b, name in enumerate(ids):
            for a, label in enumerate(classes[b].tolist()):
                for variant in maps:
                    found = saved[name, label, variant]
                    assert found.dtype == np.float32
                    assert np.array_equal(found, maps[variant][b, a].numpy())
    with (tmp_path / "maps" / "index.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == ["é/a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert all(line["name"] == NAMES[int(line["class"])] for line in lines)
    first = lines[0]  # what the docs say that the columns mean
    with safe_open(tmp_path / "maps" / first["shard"], "np") as shard:
        row = shard.get_tensor(first["variant"])[int(first["row"])]
    assert np.array_equal(row, saved["é/a", int(first["class"]), first["variant"]])


def test_a_variant_may_hold_the_maps_of_the_first_classes_alone(tmp_path):
    ids, classes, maps = batch(("a", "b", "c"), (4, 6))
    maps["var"] = maps["var"][:, :1]
    MapWriter(tmp_path).write(ids, classes, maps)
    MapWriter(tmp_path).write_index(ids, NAMES)
    saved = SavedMaps(tmp_path)
    assert len(saved) == 3 * (2 + 1)
    for b, name in enumerate(ids):
        first, second = classes[b].tolist()
        assert np.array_equal(saved[name, first, "var"], maps["var"][b, 0].numpy())
        assert np.array_equal(saved[name, first, "base"], maps["base"][b, 0].numpy())
        assert np.array_equal(saved[name, second, "base"], maps["base"][b, 1].numpy())
        assert (name, second, "var") not in saved


def test_what_is_made_again_takes_the_place_of_what_was(tmp_path):
    writer = MapWriter(tmp_path)
    writer.write(*batch(("a", "b"), (3, 3), seed=0))
    ids, classes, maps = batch(("a", "b"), (3, 3), seed=1)
    writer.write(ids, classes, maps)
    writer.write_index(["a", "b"], NAMES)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert np.array_equal(SavedMaps(tmp_path)["a", int(classes[0, 0]), "base"], maps["base"][0, 0])


def test_samples_that_are_not_done_are_not_in_the_index(tmp_path):
    MapWriter(tmp_path).write(*batch(("a", "b"), (3, 3)))
    MapWriter(tmp_path).write_index(["b"], NAMES)
    assert {name for name, _, _ in SavedMaps(tmp_path)} == {"b"}


def test_what_goes_wrong_is_a_sentence(tmp_path):
    with pytest.raises(BadData, match=r"holds neither index\.csv nor \.npz files; give the folder"):
        SavedMaps(tmp_path)
    (tmp_path / "maps").write_text("in the way")
    with pytest.raises(CannotWrite, match=r"cannot write maps to .* maps=false"):
        MapWriter(tmp_path / "maps").write(*batch(("a",), (3, 3)))
