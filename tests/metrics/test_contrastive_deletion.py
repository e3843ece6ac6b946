import pytest
import torch

from var_exp.metrics import ContrastiveDeletion
from var_exp.metrics.contrastive_deletion import contrastive_deletion
from var_exp.metrics.insertion_deletion import deletion_auc


def test_is_the_difference_of_two_deletions(small_model, small_scene):
    images, classes, maps = small_scene
    competitors = torch.tensor([1, 2, 0])
    for score in ("probability", "logit"):
        own = deletion_auc(small_model, images, classes, maps, 12, score=score)
        other = deletion_auc(small_model, images, competitors, maps, 12, score=score)
        got = contrastive_deletion(small_model, images, classes, competitors, maps, 12, score=score)
        torch.testing.assert_close(got, own - other)


def test_tells_the_own_part_of_a_class_from_the_shared_one():
    """Deletion hardly can, since either makes the class fall; who wins then is what differs."""
    shared = torch.zeros(1, 1, 4, 8)
    shared[..., :1, :] = 1  # the first row speaks for both classes
    own = torch.zeros(1, 1, 4, 8)
    own[..., 1:, :4] = 1  # the left of the others for the class, the right for the competitor

    def predict(images):
        both = 2 * images[:, 0, 0].sum(1)
        left, right = (images[:, 0, 1:, half].sum((1, 2)) for half in (slice(0, 4), slice(4, 8)))
        return torch.stack([both + left, both + right, torch.full_like(both, 20)], 1)

    images, classes, competitors = torch.ones(1, 1, 4, 8), torch.tensor([0]), torch.tensor([1])
    deleted = [deletion_auc(predict, images, classes, m, 32).item() for m in (own, shared)]
    assert max(deleted) < 0.1
    contrast = [
        contrastive_deletion(predict, images, classes, competitors, m, 32).item()
        for m in (own, shared, own.flip(3))
    ]
    assert contrast[0] < -0.4
    assert abs(contrast[1]) < 0.2
    assert contrast[2] > 0.4


def test_a_class_against_itself_scores_zero(small_model, small_scene):
    images, classes, maps = small_scene
    assert (contrastive_deletion(small_model, images, classes, classes, maps, 6) == 0).all()


def test_metric_needs_rivals(small_model, small_scene):
    images, classes, maps = small_scene
    competitors = torch.tensor([1, 2, 0])
    metric = ContrastiveDeletion(small_model, steps=6, ties="base")
    inputs = {"images": images, "classes": classes, "maps": maps}
    metric.update(**inputs, competitors=competitors, base_maps=maps)
    expected = contrastive_deletion(small_model, images, classes, competitors, maps, 6)
    torch.testing.assert_close(metric.latest[0], expected)
    with pytest.raises(TypeError, match="competitors"):
        metric.update(**inputs)
    with pytest.raises(ValueError, match="competitors must be one per map, got 2 for 3 maps"):
        contrastive_deletion(small_model, images, classes, competitors[:2], maps, 6)
