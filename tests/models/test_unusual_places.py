"""Where the features of unusual networks lie: in another scale, a frame, or windows."""

import pytest
import torch
from changed_cells import farthest_answer
from torch import nn
from torch.nn import functional
from unusual_networks import Net, block, made, small

from var_exp.methods import get_method
from var_exp.models.targets import find_target
from var_exp.types import UnsupportedModel

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
CLASSES = torch.tensor([[1, 2], [0, 3]])


def test_windows_of_odd_size_keep_their_places():
    model = made("shifted windows of odd size")
    target = find_target(model, IMAGES[:1])
    assert target.grid == (16, 16)
    assert farthest_answer(model, target, IMAGES[:1]) <= 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in front", "behind"])
def test_tokens_of_another_scale_are_no_class_tokens(order):
    def run(m, x):
        scales = [embed(x).flatten(2).mT for embed in m.scales]
        return m.head(m.norm(m.block(torch.cat([scales[i] for i in order], 1))).mean(1))

    scales = nn.ModuleList([nn.Conv2d(3, 16, 16, 16), nn.Conv2d(3, 16, 8, 8)])
    torch.manual_seed(2)
    model = Net(run, scales=scales, block=block(), norm=nn.LayerNorm(16), head=nn.Linear(16, 6))
    with pytest.raises(UnsupportedModel, match="tokens of another scale stand beside them"):
        find_target(model.eval(), IMAGES[:1])


@pytest.mark.parametrize(
    ("show", "frame"),
    [
        (lambda x: functional.pad(x, (16, 16, 16, 16), mode="reflect"), (-16, -16, 96, 96)),
        (lambda x: functional.pad(x, (0, 16, 0, 16)), (0, 0, 80, 80)),
        (lambda x: x[:, :, 8:56, 8:56], (8, 8, 48, 48)),
        (lambda x: functional.interpolate(x, (96, 96), mode="bilinear"), None),
        (lambda x: functional.avg_pool2d(x, 2), None),
    ],
    ids=["mirrored", "padded", "cropped", "enlarged", "halved"],
)
def test_where_the_picture_lies_in_what_the_network_sees(show, frame):
    torch.manual_seed(2)
    model = Net(lambda m, x: m.net(show(x)), net=small()).eval()
    assert find_target(model, IMAGES[:1]).frame == frame
    if frame is None:
        return
    method = get_method("gradcam")
    top, left, height, width = frame
    coarse = method.coarse(model, IMAGES, CLASSES)
    fine = functional.interpolate(coarse, (height, width), mode="bilinear")
    expected = torch.zeros(2, 2, 64, 64)
    rows, columns = (slice(max(a, 0), min(a + n, 64)) for a, n in ((top, height), (left, width)))
    expected[..., rows, columns] = fine[
        ..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    torch.testing.assert_close(method.attribute(model, IMAGES, CLASSES)[:, :, 0], expected)


@pytest.mark.parametrize("size", [64, 96])
def test_a_part_that_is_enlarged_is_refused(size):
    def run(m, x):
        return m.net(functional.interpolate(x[:, :, 8:56, 8:56], (size, size), mode="bilinear"))

    torch.manual_seed(2)
    with pytest.raises(UnsupportedModel, match="pads, crops or warps the picture"):
        find_target(Net(run, net=small()).eval(), IMAGES[:1])
