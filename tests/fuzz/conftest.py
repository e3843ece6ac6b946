"""The small data sets of `tests/data`, to be damaged; and the count of what became of them."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
from damage import COUNT

_spec = importlib.util.spec_from_file_location(
    "data_conftest", Path(__file__).parents[1] / "data" / "conftest.py"
)
_found = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_found)
coco, voc2007 = _found.coco, _found.voc2007


@pytest.fixture
def outcomes(request):
    """Counts what became of each input, and prints it in the end."""
    counted = Counter()
    yield counted
    print(f"\n{request.node.name}: {dict(counted)} of {COUNT}")
    assert sum(counted.values()) == COUNT
