"""A corpus of bad files and annotations: each is read rightly, or named and left out.

docs/data.md shows the same as a table. Annotations of Pascal VOC, COCO and ImageNet that do not fit
are tried where their loaders are tested.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from var_exp.data.datamodule import SampleModule
from var_exp.data.folder import PictureFolder
from var_exp.data.unreadable import not_scored
from var_exp.types import BadData, Batch, InputSpec

SPEC = InputSpec(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
RED, GREY, WHITE = (200, 30, 40), (128, 128, 128), (255, 255, 255)


def file(picture, form="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def plain(mode="RGB", colour=RED, size=(40, 40)):
    return Image.new(mode, size, colour)


def noisy():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return Image.fromarray(pixels)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = plain(size=(60, 40), colour=(0, 0, 0))
    picture.paste(RED, (0, 0, 30, 40))  # the left half: upright it is the upper one
    return file(picture, exif=exif)


def lying(kind, body):
    """A PNG that says about itself what is not so."""
    chunk = kind + body
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body)) + chunk
    return head + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT5\xaf\x06\x1e"


def header(width, height):
    return lying(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


CMYK = (0, 217, 204, 55)  # 200, 30, 40 without colour management

READ = {  # colour of the picture's middle
    "grey.png": (file(plain("L", 128)), GREY),
    "one bit.png": (file(plain("1", 1)), WHITE),
    "palette.gif": (file(plain().quantize(4), "GIF"), RED),
    "16 bit.png": (file(Image.fromarray(np.full((40, 40), 32896, np.uint16))), GREY),
    "16 bit.tif": (file(Image.fromarray(np.full((40, 40), 32896, np.uint16)), "TIFF"), GREY),
    "cmyk.jpg": (file(plain("CMYK", CMYK), "JPEG", quality=100), RED),
    "cmyk.tif": (file(plain("CMYK", CMYK), "TIFF"), RED),
    "transparent.png": (file(plain("RGBA", (0, 0, 0, 0))), WHITE),
    "transparent palette.png": (file(plain("P", 0), transparency=0), WHITE),
    "grey with alpha.png": (file(plain("LA", (128, 255))), GREY),
    "animated.gif": (
        file(plain(), "GIF", save_all=True, append_images=[plain(colour=(0, 0, 255))]),
        RED,
    ),
    "animated.webp": (
        file(
            plain(), "WEBP", save_all=True, append_images=[plain(colour=(0, 9, 255))], lossless=True
        ),
        RED,
    ),
    "pages.tif": (file(plain(), "TIFF", save_all=True, append_images=[plain(colour=WHITE)]), RED),
    "png in name only.jpg": (file(plain()), RED),
    "jpeg in name only.png": (file(plain(), "JPEG", quality=100), RED),
    "LOUD.JPG": (file(plain(), "JPEG", quality=100), RED),
    "broken exif.jpg": (file(plain(), "JPEG", quality=100, exif=b"Exif\0\0rubbish"), RED),
    "one pixel.png": (file(plain(size=(1, 1))), RED),
    "strip.png": (file(plain(size=(3000, 1))), RED),
    "progressive.jpg": (file(plain(), "JPEG", quality=100, progressive=True), RED),
    "late rubbish.png": (file(plain()) + b"rubbish", RED),
    "ünïcödé 猫 (1) .png": (file(plain()), RED),
}
LEFT_OUT = {  # what the reason says
    "zero bytes.jpg": (b"", "the file is empty"),
    "text.jpg": (b"<html>404</html>", "it is no picture of a format"),
    "zeros.png": (bytes(5000), "it is no picture of a format"),
    "cut in its head.jpg": (file(noisy(), "JPEG")[:20], "cannot read picture"),
    "cut.jpg": (file(noisy(), "JPEG")[:2000], "truncated"),
    "cut.png": (file(noisy())[:5000], "truncated"),
    "cut.gif": (file(noisy(), "GIF")[:2000], "cannot read picture"),
    "cut.webp": (file(noisy(), "WEBP")[:900], "cannot read picture"),
    "cut.tif": (file(noisy(), "TIFF")[:900], "cannot read picture"),
    "cut.bmp": (file(noisy(), "BMP")[:900], "truncated"),
    "bomb.png": (header(50_000, 50_000), "more than 134 million pixels"),
    "no width.png": (header(0, 7), "cannot read picture"),
    "no content.png": (header(40, 40), "cannot read picture"),
    "floats.tif": (
        file(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"),
        "32-bit numbers have no known range",
    ),
}
MASKS = {  # of a picture of 40 x 40
    "jpeg": (file(plain("L", 255), "JPEG"), "is a JPEG, which smears masks"),
    "webp": (file(plain("L", 255), "WEBP"), "is a WEBP, which smears masks"),
    "other size": (file(plain("L", 255, (30, 40))), "has 30 x 40 px and its picture 40 x 40"),
    "empty file": (b"", "the file is empty"),
    "cut": (file(noisy())[:5000], "truncated"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    for name, (content, _) in (READ | LEFT_OUT).items():
        (root / name).write_bytes(content)
    (root / "a folder.png").mkdir()
    (root / "a folder.png" / "thumbs.txt").write_text("no picture")
    (root / "turned.png").write_bytes(turned())
    (root / "gone.png").symlink_to(root / "nowhere.png")
    return root


def test_there_are_enough_of_them():
    assert len(READ) + len(LEFT_OUT) + len(MASKS) >= 40


def test_each_is_read_rightly_or_left_out_and_named(corpus):
    data = PictureFolder(str(corpus), SPEC, num_classes=2, on_error="skip")
    seen = {}
    for loaded in SampleModule(data, SPEC, 5).test_dataloader():
        for batch in loaded:
            if isinstance(batch, Batch):
                seen |= dict(zip(batch.ids, batch.images * 0.5 + 0.5, strict=True))
    assert seen.keys() == READ.keys() | {"turned.png"}
    for name, (_, colour) in READ.items():
        middle = (seen[name][:, 16, 16] * 255).tolist()
        assert middle == pytest.approx(colour, abs=3), name
    upper, lower = seen["turned.png"][:, 4, 16] * 255, seen["turned.png"][:, 28, 16] * 255
    assert upper.tolist() == pytest.approx(RED, abs=3)
    assert lower.max() < 3

    reasons = data.skipped | not_scored(data, set(seen))
    assert reasons.keys() == LEFT_OUT.keys() | {"gone.png"}
    for name in LEFT_OUT:
        assert LEFT_OUT[name][1] in reasons[name], name
        assert name in reasons[name]
    assert data.notes == {"files not taken for pictures": "1 .txt"}


def read_all(root):
    data = PictureFolder(str(root), SPEC, num_classes=2, on_error="fail")
    for index in range(len(data)):
        data[index]


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_each_ends_a_strict_run_by_name(tmp_path, name):
    content, reason = LEFT_OUT[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.png").write_bytes(file(plain()))
    with pytest.raises(BadData) as refused:
        read_all(tmp_path)
    assert name in str(refused.value)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_masks_that_cannot_be_used_leave_their_picture_out(tmp_path, kind):
    content, reason = MASKS[kind]
    (tmp_path / "a.png").write_bytes(file(plain()))
    (tmp_path / "a.mask.png").write_bytes(content)
    data = PictureFolder(str(tmp_path), SPEC, num_classes=2, on_error="skip")
    (named,) = not_scored(data, set()).items()
    assert named[0] == "a.png"
    assert reason in named[1]


def test_an_empty_mask_is_a_region_without_a_pixel(tmp_path):
    (tmp_path / "a.png").write_bytes(file(plain()))
    (tmp_path / "a.mask.png").write_bytes(file(plain("L", 0)))
    regions = PictureFolder(str(tmp_path), SPEC, num_classes=2)[0].regions
    assert torch.equal(regions, torch.zeros(1, 32, 32, dtype=torch.bool))
