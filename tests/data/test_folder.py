"""Pictures on disk arrive as the model's weights expect them."""

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.data.folder import ClassFolders
from var_exp.types import BadData, InputSpec

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
    sample = ClassFolders(str(root), SPEC)[0]
    assert sample.image.shape == (3, 32, 32)
    # the short side is resized to 32 / 0.5 = 64 = its size, so the crop is the centre, untouched
    assert torch.equal(sample.image[0, :, :16], torch.ones(32, 16))
    assert torch.equal(sample.image[2, :, 16:], torch.ones(32, 16))
    assert sample.image[1].max() == 0
    assert sample.id == "n01440764/picture 0.png" == ClassFolders(str(root), SPEC).sample_id(0)
    assert sample.regions is None


def test_sorted_folders_count_from_zero(root):
    data = ClassFolders(str(root), SPEC)
    assert len(data) == 5
    assert [data.label(i) for i in range(5)] == [0, 0, 1, 1, 1]
    assert data.class_names == ["n01440764", "n01443537"]
    assert data[4].classes.tolist() == [1]


def test_imagenet_folders_have_the_class_numbers_of_imagenet_whichever_are_there(root):
    (root / "n15075141").mkdir()  # toilet tissue, the last class
    Image.new("L", (50, 40), 128).save(root / "n15075141" / "grey.jpg")
    data = ClassFolders(str(root), SPEC, labels="imagenet")
    assert [data.label(i) for i in range(6)] == [0, 0, 1, 1, 1, 999]
    assert len(data.class_names) == 1000
    assert (data.class_names[0], data.class_names[999]) == ("tench", "toilet tissue")
    assert data[5].image.shape == (3, 32, 32)


def test_rotated_by_exif_stands_upright(root):
    rotated = Image.open(root / "n01440764" / "picture 0.png").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to show"
    rotated.save(root / "n01440764" / "a.png", exif=exif)
    data = ClassFolders(str(root), SPEC)
    assert torch.equal(data[0].image, data[1].image)


def test_count_takes_evenly(root):
    assert [f.stem for f, _ in ClassFolders(str(root), SPEC, count=3).files] == [
        "picture 0",
        "picture 0",
        "picture 2",
    ]


def test_what_cannot_be_used_is_named(root, tmp_path_factory):
    with pytest.raises(BadData, match=r"data\.root '/nowhere' is not a folder"):
        ClassFolders("/nowhere", SPEC)
    with pytest.raises(BadData, match="holds no pictures in class folders"):
        ClassFolders(str(tmp_path_factory.mktemp("empty")), SPEC)
    (root / "cats").mkdir()
    with pytest.raises(BadData, match="cats' is not named by an ImageNet-1k WordNet id"):
        ClassFolders(str(root), SPEC, labels="imagenet")
    (root / "cats" / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"cannot read picture '.*broken\.jpg'"):
        ClassFolders(str(root), SPEC)[0]
