"""The folder `conf/`, whose files are the aliases; no heavy import, so that a shell can ask."""

from difflib import get_close_matches
from pathlib import Path


def conf_dir() -> Path:
    """Folder of the configuration: inside an installed package, beside `src/` in a checkout."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def aliases(group: str) -> list[str]:
    """Sorted names of the YAML files in one configuration group, such as "method".

    Without "none", which is how a group says that nothing of it is wanted.
    """
    names = {file.stem for file in (conf_dir() / group).glob("*.yaml")}
    return sorted(names - {"none"})


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint to the nearest known name, to be put behind the wrong one; "" when none is near."""
    close = get_close_matches(word, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
