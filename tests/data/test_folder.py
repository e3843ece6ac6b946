"""Pictures on disk arrive as the model's weights expect them."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.data.folder import PictureFolder
from var_exp.types import PREDICTED, BadData, InputSpec, Unreadable

SPEC = InputSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.5)


@pytest.fixture
def root(tmp_path):
    """Two classes; the pictures are 128 x 64, left half red, right half blue."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :64, 0] = 255
    picture[:, 64:, 2] = 255
    for name, count in (("n01440764", 2), ("n01443537", 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.fromarray(picture).save(tmp_path / name / f"picture {i}.png")
    (tmp_path / "n01440764" / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_are_resized_on_the_short_side_and_cropped_in_the_centre(root):
    sample = PictureFolder(str(root), SPEC)[0]
    assert sample.image.shape == (3, 32, 32)
    # the short side is resized to 32 / 0.5 = 64 = its size, so the crop is the centre, untouched
    assert torch.equal(sample.image[0, :, :16], torch.ones(32, 16))
    assert torch.equal(sample.image[2, :, 16:], torch.ones(32, 16))
    assert sample.image[1].max() == 0
    assert sample.id == "n01440764/picture 0.png" == PictureFolder(str(root), SPEC).sample_id(0)
    assert sample.regions is None


def test_sorted_folders_count_from_zero(root):
    data = PictureFolder(str(root), SPEC)
    assert len(data) == 5
    assert [data.label(i) for i in range(5)] == [0, 0, 1, 1, 1]
    assert data.class_names == ["n01440764", "n01443537"]
    assert data[4].classes.tolist() == [1]


def test_imagenet_folders_have_the_class_numbers_of_imagenet_whichever_are_there(root):
    (root / "n15075141").mkdir()  # toilet tissue, the last class
    Image.new("L", (50, 40), 128).save(root / "n15075141" / "grey.jpg")
    data = PictureFolder(str(root), SPEC, labels="imagenet")
    assert [data.label(i) for i in range(6)] == [0, 0, 1, 1, 1, 999]
    assert len(data.class_names) == 1000
    assert (data.class_names[0], data.class_names[999]) == ("tench", "toilet tissue")
    assert data[5].image.shape == (3, 32, 32)


def test_rotated_by_exif_stands_upright(root):
    rotated = Image.open(root / "n01440764" / "picture 0.png").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to show"
    rotated.save(root / "n01440764" / "a.png", exif=exif)
    data = PictureFolder(str(root), SPEC)
    assert torch.equal(data[0].image, data[1].image)


def test_count_takes_evenly(root):
    assert [f.stem for f, _ in PictureFolder(str(root), SPEC, count=3).pictures] == [
        "picture 0",
        "picture 0",
        "picture 2",
    ]


def test_what_cannot_be_used_is_named(root, tmp_path_factory):
    with pytest.raises(BadData, match=r"data\.root '/nowhere' is neither a folder nor a file"):
        PictureFolder("/nowhere", SPEC)
    with pytest.raises(BadData, match=r"'http://a\.org/b' is an address.*; download it first and"):
        PictureFolder("http://a.org/b", SPEC)
    with pytest.raises(
        BadData, match="holds no pictures; expected pictures, or <class>/<picture>,"
    ):
        PictureFolder(str(tmp_path_factory.mktemp("empty")), SPEC)
    (root / "cats").mkdir()
    with pytest.raises(BadData, match="'cats' is not named by an ImageNet-1k WordNet id"):
        PictureFolder(str(root), SPEC, labels="imagenet")


def save(file, size=(64, 64), colour=128):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, colour).save(file)


def test_pictures_in_the_root_have_no_label(tmp_path):
    for name in ("b.png", "a.png", "album/c.png", ".hidden.png", "album/.cache/d.png", "x.heic"):
        save(tmp_path / name) if name.endswith("png") else (tmp_path / name).write_bytes(b"?")
    data = PictureFolder(str(tmp_path), SPEC, num_classes=1000)
    assert [data.sample_id(i) for i in range(len(data))] == ["a.png", "album/c.png", "b.png"]
    assert data[0].classes.tolist() == [PREDICTED] == [data.label(0)]
    assert data.class_names[1] == "goldfish"
    assert data.notes == {"files not taken for pictures": "1 .heic"}
    labelled = PictureFolder(str(tmp_path), SPEC, labels="sorted")
    assert [labelled.sample_id(i) for i in range(len(labelled))] == ["album/c.png"]
    assert labelled.notes["pictures outside of class folders, left out"] == "2"


def test_names_that_the_model_knows_decide_not_the_order(tmp_path):
    for name in ("dog", "ape"):
        save(tmp_path / name / "a.png")
    known = PictureFolder(str(tmp_path), SPEC, model_names=("cat", "dog", "ape"))
    assert [known.label(i) for i in range(2)] == [2, 1]
    assert known.class_names == ["cat", "dog", "ape"]
    unknown = PictureFolder(str(tmp_path), SPEC, num_classes=2)
    assert [unknown.label(i) for i in range(2)] == [0, 1]
    with pytest.raises(BadData, match=r"'dog' is not named by one of the model's .*labels=none"):
        PictureFolder(str(tmp_path), SPEC, model_names=("ape", "hound"))


def test_imagenet_models_know_their_classes_by_name_and_by_wordnet_id(tmp_path):
    for name in ("goldfish", "n15075141"):
        save(tmp_path / name / "a.png")
    data = PictureFolder(str(tmp_path), SPEC, num_classes=1000)
    assert [data.label(i) for i in range(2)] == [1, 999]
    save(tmp_path / "crane" / "a.png")  # the bird or the machine?
    with pytest.raises(BadData, match="'crane' is not named by one of the model's classes"):
        PictureFolder(str(tmp_path), SPEC, num_classes=1000)


def test_names_of_any_script_spaces_and_equal_names(tmp_path):
    names = ["猫/写 真 (1).png", "猫/é ö.png", "chien/写 真 (1).png", 'chien/a,b"c.png']
    for name in names:
        save(tmp_path / name)
    odd = os.fsencode(tmp_path / "chien") + b"/caf\xe9.png"  # Latin-1
    with open(odd, "wb") as file:  # noqa: PTH123 (a name that is no text)
        file.write((tmp_path / names[0]).read_bytes())
    data = PictureFolder(str(tmp_path), SPEC)
    ids = [data.sample_id(i) for i in range(len(data))]
    assert sorted(ids) == sorted([*names, "chien/caf\\xe9.png"])
    assert len(set(ids)) == 5
    assert all(id.encode() for id in ids)
    assert [data[i].id for i in range(5)] == ids


def test_masks_lie_beside_their_pictures(tmp_path):
    save(tmp_path / "a.jpg", (128, 64))
    mask = np.zeros((64, 128), np.uint8)
    mask[:, 64:] = 255
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    save(tmp_path / "b.png", (128, 64))
    save(tmp_path / "gone.mask.png")
    data = PictureFolder(str(tmp_path), SPEC)
    assert len(data) == 2
    expected = torch.zeros(1, 32, 32, dtype=torch.bool)
    expected[:, :, 16:] = True
    assert torch.equal(data[0].regions, expected)
    assert not data[1].regions.any()  # none known where others are: empty, so undefined
    assert data.notes == {"masks without a picture": "1: gone.mask.png"}
    (tmp_path / "a.mask.png").unlink()
    (tmp_path / "gone.mask.png").unlink()
    assert PictureFolder(str(tmp_path), SPEC)[0].regions is None


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_masks_that_do_not_fit_their_picture(tmp_path, on_error):
    save(tmp_path / "a.jpg", (128, 64))
    save(tmp_path / "a.mask.png", (64, 128))
    data = PictureFolder(str(tmp_path), SPEC, on_error=on_error)
    error = Unreadable if on_error == "skip" else BadData
    with pytest.raises(error, match="has 64 x 128 px and its picture 128 x 64"):
        data[0]
    (tmp_path / "a.mask.png").write_bytes(b"")
    with pytest.raises(error, match=r"a\.mask\.png' \(the file is empty"):
        data[0]


def test_one_file_is_a_folder_of_one(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 16), "red").save(tmp_path / name)
    (tmp_path / "cats").mkdir()
    alone = PictureFolder(str(tmp_path / "b.png"), SPEC, 5)
    assert [alone.sample_id(i) for i in range(len(alone))] == ["b.png"]
    assert alone.label(0) == PREDICTED
    both = PictureFolder(str(tmp_path), SPEC, 5)
    assert torch.equal(alone[0].image, both[1].image)
    with pytest.raises(BadData, match="neither a folder nor a file"):
        PictureFolder(str(tmp_path / "c.png"), SPEC, 5)
