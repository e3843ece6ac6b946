"""The file `run.json` of a run's folder: what the run depends on, and what became of it."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from var_exp.files import write_whole
from var_exp.metrics.base import Bounds, Traits
from var_exp.runs.naming import flat, short_hash
from var_exp.types import BadData, ConfigError

_PACKAGE = Path(__file__).parents[1]
_PRIVATE = (
    "This file and config.yaml hold paths of this machine, which going on with the run takes; the "
    "report, the tables and the dashboards do not."
)


class RunRecord:
    """The file `run.json` of a run's folder: its record, and each time that it was started.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.json"

    def begin(self, record: Mapping[str, Any], **session: Any) -> None:
        """Record a run that begins or goes on.

        Args:
            record: See `record_of`.
            session: What is to be known of this start, such as the number of processes.

        Raises:
            ConfigError: the folder holds a run with another record.
        """
        known = self.compare(record)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        sessions = [*known.get("sessions", []), {"started": started, **session}]
        self._write(
            {
                "private": _PRIVATE,
                "id": short_hash(record),
                "record": record,
                "git": _git(),
                "sessions": sessions,
            }
        )

    def finish(self, files: Iterable[str], traits: Mapping[str, Traits]) -> None:
        """Record what a finished run wrote, so that later changes of it can be told.

        Args:
            files: Names in the run's folder.
            traits: What each metric is; who merges runs need not import it.
        """
        hashes = {name: _hash_of(self.path.with_name(name)) for name in files}
        self._write(
            {**self._read(), "traits": {k: asdict(v) for k, v in traits.items()}, "files": hashes}
        )

    def changed_files(self) -> list[str]:
        """In words, which files of a finished run were edited or removed since."""
        known = self._read().get("files", {})
        now = {name: _hash_of(self.path.with_name(name)) for name in known}
        return [
            f"{name} was {'removed' if now[name] is None else 'edited'}"
            for name in known
            if now[name] != known[name]
        ]

    def traits(self) -> dict[str, Traits]:
        """What each metric is; {} where the run did not say."""
        return {
            str(name): Traits(
                higher_is_better=said["higher_is_better"] is True,
                average="classes" if said["average"] == "classes" else "samples",
                rewards_sparsity=said["rewards_sparsity"] is True,
                bounds=_bounds(said.get("bounds")),
            )
            for name, said in self._read().get("traits", {}).items()
        }

    def compare(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the file holds, {} when there is none.

        Raises:
            ConfigError: it holds another record.
        """
        known = self._read()
        if known and (differences := _differences(known["record"], record)):
            raise ConfigError(
                f"{self.path.parent} holds a run that differs: {'; '.join(differences)}. "
                "Go back to that, remove the folder, or choose another hydra.run.dir."
            )
        return known

    def facts(self) -> dict[str, str]:
        """What a reader must know to trust or repeat the run, label to text."""
        known = self._read()
        record, sessions = known["record"], known["sessions"]
        git = known.get("git")
        facts = {
            "record": known["id"],
            "started": str(sessions[0]["started"]),
            "times started": str(len(sessions)),
            "processes": _each(sessions, "processes"),
            "device": _each(sessions, "device"),
            "precision": str(record["options"].get("trainer.precision", "32-true")),
            "seed": str(record["options"]["seed"]),
            "weights": record["weights"],
            "data": record["data"],
            "code": record["code"],
        }
        if git:
            facts["git"] = git["commit"][:12] + (" with changes" if git.get("changed") else "")
        return facts | {name: str(number) for name, number in record["versions"].items()}

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            known: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            _check_form(known)
        except (ValueError, RecursionError, OSError) as error:
            raise BadData(
                f"{self.path} is damaged ({error}); remove the folder, or choose another "
                "hydra.run.dir."
            ) from error
        return known

    def _write(self, content: Mapping[str, Any]) -> None:
        write_whole(self.path, json.dumps(content, indent=1) + "\n")


def _check_form(known: object) -> None:
    """Refuse what is no record of a run.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(known, dict):
        raise ValueError("no record of a run")
    for key, kind in {"id": str, "record": dict, "sessions": list}.items():
        if not isinstance(known.get(key), kind):
            raise ValueError(f"no '{key}' in it")
    record, sessions = known["record"], known["sessions"]
    named = all(isinstance(record.get(key), str) for key in ("weights", "data", "code"))
    listed = all(isinstance(record.get(key), dict) for key in ("options", "versions"))
    if not named or not listed or "seed" not in record["options"]:
        raise ValueError("its record lacks something")
    if not sessions or not all(
        isinstance(one, dict) and {"started", "processes", "device"} <= one.keys()
        for one in sessions
    ):
        raise ValueError("its sessions lack something")
    git = known.get("git")
    if git is not None and not (isinstance(git, dict) and isinstance(git.get("commit"), str)):
        raise ValueError("its commit is none")
    for key in ("files", "traits"):
        if not isinstance(known.get(key, {}), dict):
            raise ValueError(f"its {key} are none")
    lacking = {"higher_is_better", "average", "rewards_sparsity"}
    if any(not isinstance(t, dict) or lacking - t.keys() for t in known.get("traits", {}).values()):
        raise ValueError("its traits are none")
    if any(not name or Path(name).name != name for name in known.get("files", {})):
        raise ValueError("its files are not those of its folder")


def _bounds(said: object) -> Bounds:
    """Lowest and highest score as they were written; none where they are no two numbers."""
    if not isinstance(said, list) or len(said) != 2:
        return None, None
    low, high = (float(end) if isinstance(end, int | float) else None for end in said)
    return low, high


def _hash_of(file: Path) -> str | None:
    """Hash of a file's content; None when it is not there."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of this package's checkout, and whether files differ from it; None outside of one."""

    def ask(*words: str) -> str:
        call = ["git", "-C", str(_PACKAGE), *words]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        ask("ls-files", "--error-unmatch", "types.py")
        commit = ask("rev-parse", "HEAD").strip()
        return {"commit": commit, "changed": bool(ask("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _differences(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two records, by name."""
    before, after = dict(flat(known)), dict(flat(json.loads(json.dumps(now, default=str))))
    return [
        f"{key.removeprefix('options.')} was {before.get(key, 'absent')!r}, is "
        f"{after.get(key, 'absent')!r}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _each(sessions: list[dict[str, Any]], key: str) -> str:
    """What was so in any of the sessions."""
    return ", ".join(dict.fromkeys(str(session[key]) for session in sessions))
