"""The small data sets of `tests/data`, to be damaged."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "data_conftest", Path(__file__).parents[1] / "data" / "conftest.py"
)
_found = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_found)
coco, voc2007 = _found.coco, _found.voc2007
