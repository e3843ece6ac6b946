"""Options of the metrics: one default in the class and in its function, and each arrives."""

import inspect
import sys

import pytest

import var_exp.metrics
from var_exp.metrics import InsertionAUC
from var_exp.metrics.base import SampleMetric
from var_exp.metrics.curve_metric import PerturbationMetric

CLASSES = [
    metric
    for metric in vars(var_exp.metrics).values()
    if inspect.isclass(metric) and issubclass(metric, SampleMetric)
]
ASKING = [metric for metric in CLASSES if issubclass(metric, PerturbationMetric)]


def defaults(call):
    parameters = inspect.signature(call).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


FUNCTIONS = {
    (metric.__name__, function): defaults(metric.__init__)
    for metric in CLASSES
    for name, function in inspect.getmembers(sys.modules[metric.__module__], inspect.isfunction)
    if name.replace("_", "") == metric.__name__.lower()
}


@pytest.mark.parametrize(("metric", "function"), FUNCTIONS)
def test_a_class_and_its_function_have_the_same_defaults(metric, function):
    own, its = FUNCTIONS[metric, function], defaults(function)
    assert len(FUNCTIONS) > 20
    assert {name: its[name] for name in own.keys() & its.keys()} == {
        name: own[name] for name in own.keys() & its.keys()
    }


@pytest.mark.parametrize("metric", ASKING, ids=lambda metric: metric.__name__)
def test_what_all_that_ask_a_model_have_in_common(metric, small_model):
    own, common = defaults(metric.__init__), defaults(PerturbationMetric.__init__)
    assert {name: own[name] for name in common.keys() & own.keys()} == {
        name: common[name] for name in common.keys() & own.keys()
    }
    given = {"seed": 5, "max_batch": 7, "ties": "base", "score": "logit", "baseline": "blur"}
    given = {name: value for name, value in given.items() if name in own}
    made = metric(small_model, **given)
    assert {name: getattr(made, name) for name in given} == given


def test_a_process_without_a_map_knows_how_long_curves_are(small_model):
    metric = InsertionAUC(small_model, steps=5)
    assert metric.row_shape("curves") == (6,)
    assert metric.row_shape("scores") == ()
