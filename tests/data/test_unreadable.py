"""What cannot be read is named and left out, or ends the run; nothing is lost silently."""

import logging

import pytest
from lightning import LightningModule, Trainer
from PIL import Image

from var_exp.data.datamodule import SampleModule
from var_exp.data.folder import PictureFolder
from var_exp.data.layouts import Grid
from var_exp.data.unreadable import first_readable, not_scored, unreadable
from var_exp.types import BadData, InputSpec

SPEC = InputSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def root(tmp_path):
    """Two classes of four pictures: b/1 is empty, which its head tells, a/2 is cut off later."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.effect_noise((64, 64), 90).save(tmp_path / name / f"{i}.png")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    content = (tmp_path / "a" / "2.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(content[: len(content) // 2])
    return tmp_path


class Looker(LightningModule):
    """Notes the ids that it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def test_step(self, batches, index):
        self.seen += [name for batch in batches for name in batch.ids]


def look(dataset, batch_size, workers):
    module = Looker()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, barebones=True)
    trainer.test(module, SampleModule(dataset, SPEC, batch_size, workers), verbose=False)
    return module.seen


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (8, 2)])
def test_skipping_leaves_out_exactly_what_cannot_be_read(root, caplog, batch_size, workers):
    data = PictureFolder(str(root), SPEC, on_error="skip")
    with caplog.at_level(logging.WARNING, "var_exp"):
        seen = look(data, batch_size, workers)
    assert seen == ["a/0.png", "a/1.png", "a/3.png", "b/0.png", "b/2.png", "b/3.png"]
    (line,) = [record.getMessage() for record in caplog.records if record.name[:7] == "var_exp"]
    assert "a/2.png" in line
    assert "truncated" in line
    (reason,) = data.skipped.values()
    assert list(data.skipped) == ["b/1.png"]
    assert "the file is empty" in reason
    (named,) = not_scored(data, set(seen)).items()
    assert named[0] == "a/2.png"
    assert "truncated" in named[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_failing_ends_the_run_in_the_words_of_the_error(root, workers):
    with pytest.raises(
        BadData, match=r"^1 of 8 pictures are unreadable: .*b/1\.png.*on_error=skip"
    ):
        PictureFolder(str(root), SPEC, on_error="fail")
    (root / "b" / "1.png").unlink()
    data = PictureFolder(str(root), SPEC, on_error="fail")
    with pytest.raises(BadData, match=r"^cannot read picture '.*a/2\.png.*on_error=skip") as error:
        look(data, 8, workers)
    assert "Traceback" not in str(error.value)


def test_a_grid_with_an_unreadable_cell_is_left_out_and_named(root):
    for name in "cd":
        (root / name).mkdir()
        for i in range(4):
            Image.effect_noise((64, 64), 90).save(root / name / f"{i}.png")
    grids = Grid(PictureFolder(str(root), SPEC, on_error="skip"), SPEC)
    every = {grids.sample_id(i) for i in range(len(grids))}
    seen = look(grids, 2, 0)
    assert len(every) == len(seen) + 1 == 3  # b has three pictures whose head can be read
    (name,) = not_scored(grids, set(seen))
    assert {name} == every - set(seen)
    assert "a/2.png" in name.split("+")


def test_nothing_readable_is_an_error_either_way(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadData, match="2 of 2 pictures are unreadable: cannot read picture"):
        PictureFolder(str(tmp_path), SPEC, on_error="skip")
    Image.effect_noise((64, 64), 90).save(tmp_path / "1.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:2000])
    data = PictureFolder(str(tmp_path), SPEC, on_error="skip")
    with pytest.raises(BadData, match="no sample of the data can be read; the last one: cannot"):
        first_readable(data)


def test_the_first_readable_sample_comes_after_those_that_are_not(root):
    (root / "a" / "0.png").write_bytes((root / "a" / "2.png").read_bytes())
    (root / "a" / "1.png").write_bytes((root / "a" / "2.png").read_bytes())
    assert first_readable(PictureFolder(str(root), SPEC, on_error="skip")).id == "a/3.png"


def test_heads_longer_than_the_first_look_are_read_whole(tmp_path):
    """A JPEG whose EXIF block is longer than what is read at first."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert unreadable([tmp_path / "a.jpg"], "fail") == {}


def test_what_was_readable_in_the_end_is_named_all_the_same(root):
    data = PictureFolder(str(root), SPEC, on_error="skip")
    assert not_scored(data, {data.sample_id(i) for i in range(7)} - {"a/0.png"}) == {
        "a/0.png": "it could not be read during the run, but now; run again"
    }
