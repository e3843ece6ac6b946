"""The scores of classes: logits, probabilities and their logarithms, and what is refused."""

import pytest
import torch

from var_exp.engine.scores import check_score, named_scores

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [30.0, 0.0, -90.0]])
CLASSES = torch.tensor([[2, 0], [1, 1]])


def test_scores_are_those_of_the_softmax():
    exps = LOGITS.double().exp()
    picked = torch.tensor([[exps[0, 2], exps[0, 0]], [exps[1, 1], exps[1, 1]]])
    picked = picked / exps.sum(1, keepdim=True)
    assert torch.equal(named_scores(LOGITS, CLASSES, "logit"), torch.tensor([[0.5, 1], [0, 0]]))
    for score, expected in [("probability", picked), ("log_probability", picked.log())]:
        torch.testing.assert_close(named_scores(LOGITS.double(), CLASSES, score), expected)


def test_half_precision_logits_get_a_float32_softmax():
    half = LOGITS.bfloat16()
    for score in ("probability", "log_probability"):
        found = named_scores(half, CLASSES, score)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, named_scores(half.float(), CLASSES, score))
    assert named_scores(LOGITS.double(), CLASSES, "probability").dtype == torch.float64


def test_an_unknown_score_is_refused():
    for score in ("logit", "probability", "log_probability"):
        check_score(score)
    with pytest.raises(ValueError, match=r"score must be one of logit, .*, got 'softmax'"):
        check_score("softmax")


def test_classes_out_of_range_are_refused_by_every_score():
    for score in ("logit", "probability", "log_probability"):
        with pytest.raises(ValueError, match="got 3"):
            named_scores(LOGITS, CLASSES + 1, score)
