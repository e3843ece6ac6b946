"""Print the lowest versions that pyproject.toml allows, as pip takes them (`make check-lowest`)."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for line in [
    *project["dependencies"],
    *(r for name in extras if name != "dev" for r in extras[name]),
]:
    bounded = re.match(r"([\w-]+)\s*>=\s*([\d.]+)", line)
    if bounded:  # the others say no lowest version
        print("==".join(bounded.groups()))
