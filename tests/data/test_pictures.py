"""Every kind of file is read rightly or named; pictures, masks and boxes go one way."""

import io
import math
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageOps
from timm.data import create_transform, resolve_model_data_config
from torchvision.transforms import v2

from var_exp.data.geometry import Geometry
from var_exp.data.pictures import check_header, read_labels, read_mask, read_picture
from var_exp.models import input_spec, load_model
from var_exp.types import BadData

NOISE = np.random.default_rng(0)


def pixels(picture):
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def chessboard(height, width, channels=3):
    """Random blocks, so that neighbours differ and no pixel resembles another's place."""
    return NOISE.integers(0, 256, (height, width, channels), np.uint8)


def png(width, height, bits, lines):
    """A PNG file in RGB, written by hand."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_exif_turns_the_picture_upright(tmp_path, orientation, ending):
    """Pillow's own `exif_transpose` is the oracle; a corner says that it was needed."""
    stored = np.zeros((6 * 8, 4 * 8, 3), np.uint8)
    stored[:16, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{ending}", exif=exif, quality=100)
    read = read_picture(tmp_path / f"a.{ending}")
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    row, column = (-place for place in corner[orientation])
    assert (read.height > read.width) == (orientation < 5)
    assert pixels(read)[row, column].min() > 250
    assert pixels(read)[-1 - row, -1 - column].max() < 5
    oracle = ImageOps.exif_transpose(Image.open(tmp_path / f"a.{ending}"))
    assert np.array_equal(pixels(read), pixels(oracle.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_uncompressed_tiff_is_turned_without_mixing_up_its_rows(tmp_path, mode, orientation):
    """Pillow maps such a file into memory with the sides swapped; the oracle reads a stream."""
    random = np.random.default_rng(orientation)
    stored = Image.fromarray(random.integers(0, 256, (12, 7, 3), dtype=np.uint8))
    if mode == "I;16":
        stored = Image.fromarray(random.integers(0, 2**16, (12, 7)).astype(np.uint16))
    picture = stored if mode == "I;16" else stored.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a.tif"
    picture.save(file, exif=exif)
    plain = read_picture(io.BytesIO(encoded(picture)))
    oracle = ImageOps.exif_transpose(turned(plain, exif))
    assert np.array_equal(pixels(read_picture(file)), pixels(oracle))


def encoded(picture):
    stream = io.BytesIO()
    picture.save(stream, "TIFF")
    return stream.getvalue()


def turned(picture, exif):
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    return Image.open(stream)


def white_is_zero(values, orientation=1):
    """An uncompressed TIFF of 16 bit, by hand: 0 is white."""
    rows, columns = values.shape
    content = values.astype("<u2").tobytes()
    tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, 0), (273, 8 + 2 + 10 * 12 + 4),
            (274, orientation), (277, 1), (278, rows), (279, len(content))]  # fmt: skip
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + struct.pack("<I", 0) + content


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (8, 1)])
def test_sixteen_bit_tiff_in_which_zero_is_white(tmp_path, orientation, turns):
    values = np.random.default_rng(0).integers(0, 2**16, (12, 7))
    file = tmp_path / "scan.tif"
    file.write_bytes(white_is_zero(values, orientation))
    expected = np.rot90(np.round((65535 - values) / 257), turns).astype(np.uint8)
    assert np.array_equal(pixels(read_picture(file)), np.repeat(expected[..., None], 3, 2))
    assert not read_mask(io.BytesIO(white_is_zero(np.full((3, 3), 65535)))).any()
    assert read_mask(io.BytesIO(white_is_zero(np.zeros((3, 3))))).all()


def test_grey_maps_of_ten_and_sixteen_bit():
    for most, high, low in ((1023, 1023, 0), (65535, 65535, 257)):
        content = f"P5\n2 1\n{most}\n".encode() + struct.pack(">HH", high, low)
        expected = [[[255] * 3, [round(low * 255 / most)] * 3]]
        assert pixels(read_picture(io.BytesIO(content))).tolist() == expected


def test_numbers_with_fractions_are_no_classes_and_what_is_none_no_mask():
    stream = io.BytesIO()
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(stream, "TIFF")
    for read in (read_labels, read_mask):
        with pytest.raises(BadData, match=r"whole numbers|that are none"):
            read(stream)


def test_a_broken_exif_block_is_no_reason_to_lose_the_picture(tmp_path):
    Image.fromarray(chessboard(8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0no header at all")
    assert read_picture(tmp_path / "a.jpg").size == (8, 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "tif", "webp"])
def test_lossless_files_come_back_as_they_were(tmp_path, mode, ending):
    picture = Image.fromarray(chessboard(5, 7)).convert("RGB" if mode == "P" else mode)
    if mode == "P":
        picture = picture.quantize(16)
    elif ending == "gif":  # holds 256 colours
        picture = picture.convert("L" if mode == "RGB" else mode)
    picture.save(tmp_path / f"a.{ending}", lossless=True)
    assert np.array_equal(
        pixels(read_picture(tmp_path / f"a.{ending}")), pixels(picture.convert("RGB"))
    )


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, ending):
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    read = pixels(read_picture(tmp_path / f"a.{ending}"))
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]  # round(v / 257)


def test_sixteen_bit_colour_png_is_scaled(tmp_path):
    """Written by hand, since Pillow cannot."""
    values = NOISE.integers(0, 2**16, (3, 4, 3), np.uint16)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(4, 3, 16, lines))
    assert np.abs(pixels(read_picture(tmp_path / "a.png")) - values / 257).max() <= 1


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_the_colour_that_was_meant(tmp_path, ending):
    """No ink is white, all black ink black, cyan takes the red away; JPEG stores it inverted."""
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 0, 0, 255): (0, 0, 0), (255, 0, 0, 0): (0, 255, 255)}
    for ink, colour in inks.items():
        Image.new("CMYK", (8, 8), ink).save(tmp_path / f"a.{ending}", quality=100)
        assert np.abs(pixels(read_picture(tmp_path / f"a.{ending}")) - colour).max() <= 2
    if ending == "jpg":
        raw = (tmp_path / "a.jpg").read_bytes()
        assert b"Adobe" in raw


@pytest.mark.parametrize("ending", ["png", "gif", "webp", "tif"])
def test_what_is_transparent_shows_white(tmp_path, ending):
    values = np.zeros((4, 4, 4), np.uint8)
    values[:2] = (200, 0, 0, 255)
    picture = Image.fromarray(values)
    picture.save(tmp_path / f"a.{ending}", lossless=True)
    read = pixels(read_picture(tmp_path / f"a.{ending}"))
    assert (read[:2] == (200, 0, 0)).all()
    assert (read[2:] == 255).all()


def test_half_transparent_is_mixed_with_white_and_a_palette_may_be_transparent(tmp_path):
    Image.new("LA", (2, 2), (0, 51)).save(tmp_path / "a.png")
    assert (pixels(read_picture(tmp_path / "a.png")) == 204).all()
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "b.png", transparency=0)
    read = pixels(read_picture(tmp_path / "b.png"))
    assert read[0, 0].tolist() == [255] * 3
    assert read[1, 1].tolist() == [9, 8, 7]


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_picture(tmp_path, ending):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second], lossless=True)
    assert (pixels(read_picture(tmp_path / f"a.{ending}")) == (255, 0, 0)).all()


def test_the_content_decides_not_the_name(tmp_path):
    Image.fromarray(chessboard(3, 3)).save(tmp_path / "a.jpg", format="PNG")
    assert check_header(tmp_path / "a.jpg") == (3, 3)
    assert read_picture(tmp_path / "a.jpg").size == (3, 3)
    stream = io.BytesIO((tmp_path / "a.jpg").read_bytes())
    assert read_picture(stream, "row 7").size == (3, 3)


def cut(format, share):
    stream = io.BytesIO()
    Image.fromarray(chessboard(64, 64)).save(stream, format)
    return stream.getvalue()[: int(share * len(stream.getvalue()))]


def floats():
    stream = io.BytesIO()
    Image.fromarray(np.linspace(0, 3, 16, dtype=np.float32).reshape(4, 4)).save(stream, "TIFF")
    return stream.getvalue()


UNREADABLE = {
    "zero bytes": (b"", "the file is empty", True),
    "text": (b"<html>not found</html>", "it is no picture of a format", True),
    "too large": (png(20_000, 20_000, 8, b""), "more than 134 million pixels", True),
    "cut JPEG": (cut("JPEG", 0.5), "truncated", False),
    "cut PNG": (cut("PNG", 0.7), "truncated", False),
    "cut WebP": (cut("WEBP", 0.5), "", False),
    "cut TIFF": (cut("TIFF", 0.5), "", False),
    "cut BMP": (cut("BMP", 0.5), "truncated", False),
    "JPEG's head": (cut("JPEG", 1)[:20], "", True),
    "floating point": (floats(), "32-bit numbers", False),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_named(tmp_path, kind):
    content, reason, seen_early = UNREADABLE[kind]
    file = tmp_path / "très long.jpg"
    file.write_bytes(content)
    with pytest.raises(BadData, match=r"cannot read picture '.*très long\.jpg' \(.*" + reason):
        read_picture(file)
    if seen_early:
        with pytest.raises(BadData, match=r"'.*très long\.jpg' \(.*" + reason):
            check_header(file)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(BadData, match=r"gone\.png' \(it does not exist\)"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(BadData, match="cannot read picture"):
        read_picture(tmp_path)
    with pytest.raises(BadData, match="cannot read picture 'row 7'"):
        read_picture(io.BytesIO(b"nothing"), "row 7")


def test_large_pictures_are_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # warns above, refuses above twice that
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").size == (8, 8)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(BadData, match="more than"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_are_true_where_not_black(tmp_path, mode):
    truth = NOISE.random((6, 9)) < 0.5
    if mode == "I;16":
        picture = Image.fromarray(truth.astype(np.uint16))
    elif mode == "P":  # as VOC stores classes: colours mean nothing, number 0 is black
        picture = Image.fromarray(truth.astype(np.uint8))
        picture.putpalette([0, 0, 0, 128, 0, 0])
    elif mode == "RGBA":
        picture = Image.fromarray(np.where(truth[..., None], 255, 0).astype(np.uint8).repeat(4, 2))
    else:
        picture = Image.fromarray(np.where(truth, 1 if mode == "L" else 255, 0).astype(np.uint8))
        picture = picture.convert(mode)
    picture.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png").numpy(), truth)


def test_a_jpeg_is_no_mask(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "mask.jpg")
    with pytest.raises(BadData, match="is a JPEG, which smears masks; save it as PNG"):
        read_mask(tmp_path / "mask.jpg")


MODELS = {
    "center": "resnet50.tv_in1k",  # bilinear, 0.875
    "odd": "vit_base_patch16_224.augreg_in21k_ft_in1k",  # bicubic, 0.9: 248.9 is cut to 248
    "squash": "vit_base_patch16_siglip_224.webli",
    "border": "tf_efficientnetv2_b3.in21k_ft_in1k",
}


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 301), (90, 61), (224, 224)])
@pytest.mark.parametrize("kind", MODELS)
def test_the_geometry_is_that_of_timm_to_the_bit(kind, size):
    config = timm.get_pretrained_cfg(MODELS[kind]).to_dict()
    if kind == "border":
        config |= {"crop_mode": "border"}

    class Model(torch.nn.Module):
        pretrained_cfg = config

    theirs = create_transform(**resolve_model_data_config(Model()), is_training=False)
    spec = input_spec(Model())
    picture = Image.fromarray(chessboard(size[1], size[0]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    ours = (Geometry.of(spec).picture(picture) - mean) / std
    torch.testing.assert_close(ours, theirs(picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 301), (90, 61), (64, 128)])
@pytest.mark.parametrize("shape", [(128, 64), (64, 128), (97, 96)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_the_geometry_of_inputs_that_are_no_squares_is_that_of_timm(mode, shape, size):
    config = {
        **{"input_size": (3, *shape), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.3)},
        **{"crop_pct": 0.9, "crop_mode": mode, "interpolation": "bilinear"},
    }

    class Model(torch.nn.Module):
        pretrained_cfg = config

    theirs = create_transform(**resolve_model_data_config(Model()), is_training=False)
    spec = input_spec(Model())
    assert spec.shape == shape
    picture = Image.fromarray(chessboard(size[1], size[0]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    ours = (Geometry.of(spec).picture(picture) - mean) / std
    assert ours.shape == (3, *shape)
    torch.testing.assert_close(ours, theirs(picture), rtol=0, atol=1e-6)


def test_whole_pictures_keep_their_shape_whatever_that_of_the_input():
    image = Geometry(128, mode="whole", width=64).picture(Image.new("RGB", (300, 200)))
    assert image.shape == (3, 64, 96)


def test_shipped_aliases_say_how_they_crop():
    spec = input_spec(load_model("vit_b16", pretrained=False))
    assert (spec.crop_mode, spec.crop_pct) == ("center", 0.9)


GEOMETRIES = [
    Geometry(32),
    Geometry(32, 0.875),
    Geometry(48, 0.9, mode="squash"),
    Geometry(40, 0.9, mode="border"),
    Geometry(48, 0.9, width=24),
    Geometry(24, 0.9, mode="squash", width=40),
    Geometry(40, 0.9, mode="border", width=30),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("size", [(64, 64), (97, 51), (30, 77)])
def test_masks_are_the_exact_nearest_and_boxes_are_filled_masks(geometry, size):
    width, height = size
    masks = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) < 0.5
    (new_width, new_height), (left, top) = geometry._resized(width, height)
    down, across = geometry.size, geometry.width or geometry.size
    expected = torch.zeros(3, down, across, dtype=torch.bool)
    for row in range(down):
        for column in range(across):
            x = math.floor(Fraction(2 * (column + left) + 1, 2) * width / new_width)
            y = math.floor(Fraction(2 * (row + top) + 1, 2) * height / new_height)
            if 0 <= x < width and 0 <= y < height:
                expected[:, row, column] = masks[:, y, x]
    assert torch.equal(geometry.masks(masks), expected)
    resized = v2.functional.resize(  # torchvision rounds in single precision
        masks.to(torch.uint8), [new_height, new_width], v2.InterpolationMode.NEAREST_EXACT
    )
    if geometry.mode != "border":
        theirs = resized[:, top : top + down, left : left + across].bool()
        assert (geometry.masks(masks) == theirs).float().mean() > 0.95

    boxes = [(3, 5, 20, 33), (0, 0, width, height), (29, 50, 30, 51), (4, 4, 4, 9)]
    filled = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for region, (x0, y0, x1, y1) in zip(filled, boxes, strict=True):
        region[y0:y1, x0:x1] = True
    assert torch.equal(geometry.boxes(boxes, of=size), geometry.masks(filled))
    assert geometry.boxes([], of=size).shape == (0, down, across)


def test_a_bright_spot_and_its_box_meet():
    """The brightest pixel of the resized picture lies in the region of the spot's box."""
    values = np.zeros((300, 500, 3), np.uint8)
    values[101:115, 260:275] = 255
    for geometry in GEOMETRIES:
        image = geometry.picture(Image.fromarray(values))
        (region,) = geometry.boxes([(260, 101, 275, 115)], of=(500, 300))
        brightest = int(image.sum(0).argmax())
        assert region.flatten()[brightest]


def test_a_strip_is_resized_only_where_it_is_seen():
    strip = np.zeros((4, 400_000, 3), np.uint8)
    strip[:, :200_000] = 255
    image = Geometry(224, 0.875).picture(Image.fromarray(strip))
    assert image.shape == (3, 224, 224)
    assert image[:, :, :30].min() > 0.99  # 64 pixels of the square for one of the strip
    assert image[:, :, -30:].max() < 0.01
