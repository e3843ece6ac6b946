"""What is held out follows from the content; what is seen from the sample and the epoch."""

import logging

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from var_exp.data.critters import Critters
from var_exp.data.folder import PictureFolder
from var_exp.training.pictures import EpochOrder, Views, collate_attempts, hold_out, view
from var_exp.types import BadData, InputSpec, Unreadable

SPEC = InputSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def noise(file, seed):
    file.parent.mkdir(exist_ok=True, parents=True)
    pixels = torch.randint(256, (9, 9, 3), generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.byte().numpy()).save(file)


def folder(root):
    return PictureFolder(str(root), SPEC)


@pytest.fixture
def root(tmp_path):
    for c, name in enumerate(("cat", "dog", "eel")):
        for i in range((5, 10, 2)[c]):
            noise(tmp_path / name / f"{i}.png", 100 * c + i)
    return tmp_path


def names(data, indices):
    return {data.sample_id(index) for index in indices}


def test_a_share_of_every_class_is_held_out(root):
    data = folder(root)
    learnt, held = hold_out(data, 0.2)
    assert sorted(learnt + held) == list(range(17))
    assert [sum(data.label(i) == label for i in held) for label in range(3)] == [1, 2, 1]
    assert [len(hold_out(data, share)[1]) for share in (0.01, 0.5, 0.99)] == [3, 8, 4 + 9 + 1]


def test_names_folders_and_order_do_not_matter(root, tmp_path_factory):
    """The same contents under other names are held out again."""
    data = folder(root)
    held = {data.content(index) for index in hold_out(data, 0.3)[1]}
    other = tmp_path_factory.mktemp("other")
    for index in range(len(data)):
        file, label = data.pictures[index]
        (other / f"class {label}").mkdir(exist_ok=True)
        (other / f"class {label}" / f"{99 - index}.png").write_bytes(file.read_bytes())
    renamed = folder(other)
    assert {renamed.content(index) for index in hold_out(renamed, 0.3)[1]} == held


def test_copies_stay_on_one_side(root, caplog):
    data = folder(root)
    (index,) = [i for i in hold_out(data, 0.01)[1] if data.label(i) == 1]
    content = data.pictures[index][0].read_bytes()
    (root / "dog" / "copy.png").write_bytes(content)
    assert "dog/copy.png" in names(folder(root), hold_out(folder(root), 0.01)[1])
    (root / "cat" / "copy.png").write_bytes(content)  # and of another class
    data = folder(root)
    with caplog.at_level(logging.WARNING, "var_exp"):
        held = names(data, hold_out(data, 0.5)[1])
    assert not held & {"cat/copy.png", "dog/copy.png", data.sample_id(index + 1)}
    assert "1 pictures lie in several classes" in caplog.text


def test_pictures_are_needed_on_both_sides(root):
    (root / "eel" / "1.png").unlink()
    with pytest.raises(BadData, match="class 'eel' has 1 picture of its own; training needs two"):
        hold_out(folder(root), 0.2)
    noise(root / "loose.png", 1)
    with pytest.raises(BadData, match="training needs to know the class of each picture"):
        hold_out(folder(root), 0.2)


def test_data_without_files_are_split_by_their_ids():
    data = Critters(200, 3)
    learnt, held = hold_out(data, 0.25)
    assert len(learnt) + len(held) == 200
    assert {data.label(index) for index in held} == set(range(16))


def test_views_depend_on_the_sample_and_the_draw_alone():
    data = Critters(4, 3)
    views = Views(data, 0.5, seed=0)
    image, shares = views[2, 7]
    assert torch.equal(image, Views(data, 0.5, seed=0)[2, 7][0])
    assert shares.nonzero().tolist() == [[data.label(2)]]
    assert shares.sum() == 1
    others = [views[2, 8], views[1, 7], Views(data, 0.5, seed=1)[2, 7]]
    assert not any(torch.equal(image, other) for other, _ in others)
    assert torch.equal(Views(data, None, seed=0)[2, 7][0], data[2].image)


def test_masks_hide_whole_squares_and_never_more_than_their_share():
    data, colour = Critters(40, 3), (0.2, 0.4, 0.6)
    hidden = []
    for index in range(40):
        plain, _ = Views(data, 1.0, seed=0)[index, 5]
        seen, _ = Views(data, 1.0, 0, 0.25, colour)[index, 5]
        differs = (seen != plain).any(0)
        assert (seen[:, differs] == torch.tensor(colour)[:, None]).all()
        squares = differs.unflatten(0, (8, 8)).unflatten(2, (8, 8)).float().mean((1, 3))
        assert set(squares.flatten().tolist()) <= {0.0, 1.0}
        hidden.append(int(squares.sum()))
        assert torch.equal(Views(data, 1.0, 0, 0.25, colour)[index, 5][0], seen)
    assert max(hidden) <= 16  # a quarter of 64
    assert min(hidden) < 4
    assert max(hidden) > 12


def test_a_view_is_a_part_of_the_picture_resized():
    """A ramp tells which part is seen: its ends, and that nothing outside [0, 1] appears."""
    across = torch.linspace(0, 1, 64).expand(64, 64)
    ramp = torch.stack([across, across.T, torch.zeros(64, 64)])
    widths = []
    for seed in range(200):
        seen = view(ramp, 0.5, torch.Generator().manual_seed(seed))
        assert seen.shape == (3, 64, 64)
        width = (seen[0, 0, -1] - seen[0, 0, 0]).abs().item()
        height = (seen[1, -1, 0] - seen[1, 0, 0]).item()
        assert height > 0
        assert 0.5 - 0.05 <= (width * height) <= 1.01
        assert 3 / 4 - 0.06 <= width / height <= 4 / 3 + 0.06
        widths.append((seen[0, 0, -1] - seen[0, 0, 0]).item())
    assert 60 < sum(width < 0 for width in widths) < 140  # mirrored half of the time
    assert min(map(abs, widths)) < 0.75
    assert max(map(abs, widths)) > 0.97
    whole = [view(ramp, 1.0, torch.Generator().manual_seed(seed)) for seed in range(9)]
    assert any(
        torch.allclose(v, ramp) or torch.allclose(v, v2.functional.hflip(ramp)) for v in whole
    )


def test_the_order_is_another_in_each_epoch_and_the_same_again():
    order = EpochOrder(range(10, 30), seed=0)
    first = list(order)
    assert sorted(first) == [(index, 0) for index in range(10, 30)]
    assert first == list(order)
    order.set_epoch(3)
    assert {draw for _, draw in order} == {3}
    assert [index for index, _ in order] != [index for index, _ in first]
    assert list(EpochOrder([5, 3], seed=None)) == [(5, 0), (3, 0)]


def test_what_cannot_be_read_is_left_out_of_a_batch_or_ends_it(caplog):
    good = (torch.ones(3, 2, 2), torch.tensor([1.0, 0.0]))
    skipped, fatal = Unreadable("a is broken"), BadData("b is broken")
    with caplog.at_level(logging.WARNING, "var_exp"):
        images, shares = collate_attempts([good, skipped, good])
    assert images.shape == (2, 3, 2, 2)
    assert shares.shape == (2, 2)
    assert "skipped: a is broken" in caplog.text
    assert collate_attempts([skipped]) is None
    assert collate_attempts([good, fatal]) is fatal
