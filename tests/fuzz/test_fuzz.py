"""Thousands of damaged files: each is read, refused in one sentence, or counted.

A few of each kind run with the other tests. The long mode, from another seed each time or from a
given one:

    VAR_EXP_FUZZ=300 VAR_EXP_FUZZ_SEED=7 pytest tests/fuzz -s      # 300 of each kind
"""

import io
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from damage import DEEP, altered, damaged, each, tried
from named_variants import variant as named
from PIL import Image
from safetensors.torch import save_file

from var_exp.data.coco import COCO
from var_exp.data.confidence import _read as read_confidences
from var_exp.data.geometry import Geometry
from var_exp.data.pictures import check_header, read_mask, read_picture
from var_exp.data.voc import VOC
from var_exp.models.checkpoint import UNREADABLE, read_checkpoint
from var_exp.results.batch_scores import BatchScores
from var_exp.results.rows import Row, read_rows, write_rows
from var_exp.results.store import Store
from var_exp.results.summary import SummaryRow, read_summary, write_summary
from var_exp.runs.jobs import find_jobs, label_jobs, traits_of
from var_exp.runs.run_record import RunRecord
from var_exp.types import InputSpec

SPEC = InputSpec(16, (0.5,) * 3, (0.25,) * 3)


def encoded(form, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


PICTURES = {
    "png": lambda: encoded("PNG"),
    "jpeg": lambda: encoded("JPEG"),
    "progressive": lambda: encoded("JPEG", progressive=True),
    "gif": lambda: encoded("GIF"),
    "webp": lambda: encoded("WEBP"),
    "bmp": lambda: encoded("BMP"),
    "tiff": lambda: encoded("TIFF", compression="tiff_lzw"),
    "ppm": lambda: encoded("PPM"),
    "jpeg2000": lambda: encoded("JPEG2000"),
}


@pytest.mark.parametrize("form", PICTURES)
def test_pictures(outcomes, form):
    content = PICTURES[form]()

    def read(broken):
        width, height = check_header(io.BytesIO(broken))
        assert width * height <= 135_000_000
        seen = Geometry(16).picture(read_picture(io.BytesIO(broken)))
        assert seen.shape == (3, 16, 16)
        assert ((seen >= 0) & (seen <= 1)).all()
        if form == "png":
            assert read_mask(io.BytesIO(broken)).ndim == 2

    for chance in each(form):
        tried(outcomes, lambda c=chance: read(damaged(content, c)))


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return timm.create_model("test_resnet.r160_in1k", num_classes=3).state_dict()


@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors", "header", "about"])
def test_checkpoints(outcomes, tmp_path, state, kind):
    file = tmp_path / ("a.pt" if "torch" in kind else "a.safetensors")
    about = {
        "class_names": ["a", "b", "c"],
        "config": {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.2] * 3, "crop_pct": 0.9},
    }
    if "torch" in kind:
        torch.save({"model": state}, file, _use_new_zipfile_serialization=kind == "torch")
    else:
        save_file(state, file, {"var_exp": json.dumps(about)})
    content = file.read_bytes()

    def write(chance):
        if kind == "about":
            save_file(state, file, {"var_exp": json.dumps(altered(about, chance))})
        elif kind == "header":
            length = int.from_bytes(content[:8], "little")
            head = json.dumps(altered(json.loads(content[8 : 8 + length]), chance)).encode()
            file.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + length :])
        else:
            file.write_bytes(damaged(content, chance))

    def read():
        found = read_checkpoint(file)
        weights = found.of(state)
        assert all(w.shape == state[name].shape for name, w in weights.items())
        assert all(w.isfinite().all() for w in weights.values())
        assert all(isinstance(name, str) for name in found.class_names or ())
        assert math.prod(found.config.get("input_size", [1])) < 10**8
        assert min(found.config.get("std", [1])) > 0

    for chance in each(kind):
        write(chance)
        tried(outcomes, read, UNREADABLE)


def data_seen(dataset):
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.image.isfinite().all()
        assert sample.regions.shape == (len(sample.classes), 16, 16)


def test_coco(outcomes, tmp_path, coco):
    root = tmp_path / "coco"
    shutil.copytree(coco, root)
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"] = content["categories"][:30] + content["categories"][-1:]
    for chance in each("coco"):
        text = DEEP if chance.random() < 0.01 else json.dumps(altered(content, chance))
        file.write_text(text)
        tried(outcomes, lambda: data_seen(COCO(str(root), SPEC, min_area=0.001)))


@pytest.mark.parametrize("part", ["xml", "list", "values"])
def test_voc(outcomes, tmp_path, voc2007, part):
    home = tmp_path / "VOC2007"
    shutil.copytree(voc2007.home, home)
    place = "ImageSets/Main/test.txt" if part == "list" else "Annotations/000001.xml"
    content = (home / place).read_text()
    for chance in each(f"voc {part}"):
        if part == "values":
            word = chance.choice(["60", "40", "5", "20", "dog", "xmin", "0"])
            other = chance.choice(["nan", "-1", "1e400", "", "inf", "x", "9" * 30, "&a;", "0"])
            (home / place).write_text(content.replace(word, other, 1))
        else:
            (home / place).write_bytes(damaged(content.encode(), chance))
        tried(outcomes, lambda: data_seen(VOC(str(home), SPEC)))


def test_stores(outcomes, tmp_path):
    ids = [f"sample {i}" for i in range(9)]
    rows = {id: Row(id, 0, "m", named("var"), 0.1 + i) for i, id in enumerate(ids)}
    with Store(tmp_path, ids) as store:
        for id in ids:
            store.commit(BatchScores([id], [rows[id]], [(0, "c", np.ones(9, np.float32))]))
    content = (tmp_path / "store.sqlite").read_bytes()

    def read():
        with Store(tmp_path, ids) as store:
            store.absorb()
            done = sorted(store.done())
            assert list(store.rows()) == [rows[ids[place]] for place in done]
            assert all((mean == 1).all() for mean in store.means("c").values())

    for chance in each("stores"):
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / "store.sqlite").write_bytes(damaged(content, chance))
        tried(outcomes, read)


RECORD = {
    "id": "abc",
    "record": {
        "options": {"seed": 0, "trainer.precision": "32-true"},
        "weights": "w",
        "data": "d",
        "code": "c",
        "versions": {"python": "3.11"},
    },
    "git": {"commit": "0123456789abcdef", "changed": False},
    "sessions": [{"started": "2026-01-01", "processes": 1, "device": "cpu"}],
    "files": {"summary.csv": "1"},
    "traits": {"m": {"higher_is_better": True, "average": "samples", "rewards_sparsity": False}},
}


def test_run_json(outcomes, tmp_path):
    record = RunRecord(tmp_path)

    def read():
        assert isinstance(record.compare({"options": {"seed": 0}}), dict)

    def tell():
        assert all(isinstance(text, str) for text in record.facts().values())
        assert all(isinstance(text, str) for text in record.changed_files())
        assert {t.higher_is_better for t in record.traits().values()} <= {True, False}

    for number, chance in enumerate(each("run.json")):
        text = DEEP if chance.random() < 0.02 else json.dumps(altered(RECORD, chance))
        content = text.encode() if number % 2 else damaged(text.encode(), chance)
        record.path.write_bytes(content)
        tried(outcomes, (read, tell)[number // 2 % 2])


def test_caches_of_confidences(outcomes, tmp_path):
    file = tmp_path / "c.json"
    for chance in each("cache"):
        file.write_bytes(
            json.dumps(altered({"a": 0.5, "b": 1.0, "c": 0.0}, chance)).encode()
            if chance.random() < 0.5
            else damaged(b'{"a": 0.5, "b": 1.0}', chance)
        )
        found = read_confidences(file)
        assert found is None or all(0 <= value <= 1 for value in found.values())
        outcomes["asked anew" if found is None else "read"] += 1


@pytest.mark.parametrize("name", ["scores.csv", "summary.csv"])
def test_tables(outcomes, tmp_path, name):
    file = tmp_path / name
    if name == "scores.csv":
        write_rows(file, [Row(f"s{i}", i, "m", named("var"), 0.5) for i in range(5)])
    else:
        write_summary(file, [SummaryRow("m", named("var"), 0.5, 0.4, 0.6, 5)], "record")
    content = file.read_bytes()
    read = read_rows if name == "scores.csv" else read_summary
    for chance in each(name):
        file.write_bytes(damaged(content, chance))
        tried(outcomes, lambda: read(file))


def test_runs_that_are_merged(outcomes, tmp_path):
    hydra = tmp_path / "run" / ".hydra"
    hydra.mkdir(parents=True)
    config = {"metric": {"m": {"_target_": "var_exp.metrics.Sparseness"}}, "seed": 0}
    files = {
        "overrides.yaml": ["method=gbp", "data.root=/home/ann/photos"],
        "hydra.yaml": {"hydra": {"runtime": {"choices": {"method": "gbp", "model": "x"}}}},
        "config.yaml": config,
    }

    def read():
        jobs = find_jobs(tmp_path)
        assert "/home" not in str(label_jobs(jobs))
        if not jobs[0].broken:
            assert {t.average for t in traits_of(jobs[0]).values()} <= {"samples", "classes"}

    for chance in each("merged"):
        for name, tree in files.items():
            text = yaml.safe_dump(altered(tree, chance) if chance.random() < 0.4 else tree)
            (hydra / name).write_text(text)
        (hydra.parent / "config.yaml").write_text(yaml.safe_dump(altered(config, chance)))
        tried(outcomes, read)


def test_damage_is_the_same_from_the_same_seed():
    content = Path(__file__).read_bytes()
    first, again = (damaged(content, random.Random("a/0/1")) for _ in range(2))
    assert first == again != content
