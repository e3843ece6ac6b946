"""What a real offline W&B run wrote is read back from its files."""

import json
import struct
import time
from pathlib import Path

import pytest
import torch
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from var_exp.report.loggers import finish, log_results, logged_in, wandb_logger
from var_exp.report.panels import Panel
from var_exp.report.plots import Curves
from var_exp.report.rows import Row
from var_exp.report.statistics import SummaryRow


def read_records(file: Path) -> list[Record]:
    """Records of a `.wandb` file: a 7-byte header, then LevelDB's log format in 32 KiB blocks."""
    data = file.read_bytes()
    records, position, parts = [], 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # the rest of a block that holds no header is padding
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or its last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


MEANS = {"base": 0.25, "var": 0.75}


@pytest.fixture
def logged_out(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield tmp_path
    wandb.teardown()  # W&B keeps its settings for the process


def test_a_key_in_the_environment_or_the_netrc_file_is_a_login(logged_out, monkeypatch):
    assert not logged_in()
    (logged_out / "netrc").write_text("machine api.wandb.ai login user password secret")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()


def test_an_offline_run_holds_metrics_tables_pictures_and_curves(logged_out):
    logger = wandb_logger(str(logged_out), project="test", name="a run")
    panel = Panel(
        sample_id="a",
        image=torch.zeros(3, 32, 32, dtype=torch.uint8),
        class_names=["one", "two"],
        asked=2,
        maps={"base": torch.randn(2, 3, 32, 32), "var": torch.zeros(2, 1, 32, 32)},
    )
    curves = Curves("insertion", "share", "probability", [0, 0.5, 1], {"base": [0, 0.2, 1]})
    log_results(
        logger,
        {"seed": 3, "method": {"_target_": "gbp"}},
        [SummaryRow("grid", name, mean, 0.2, 0.3, 4) for name, mean in MEANS.items()],
        [Row("a", 1, "grid", "base", 0.25), Row("a", 2, "grid", "base", float("nan"), "tied")],
        [panel],
        [curves],
    )
    told = finish(logger)

    (folder,) = logged_out.glob("wandb/offline-run-*")
    assert told == f"W&B is offline; upload with: wandb sync {folder}"
    (file,) = folder.glob("*.wandb")
    records = read_records(file)
    for _ in range(60):  # W&B's service writes the file in a process of its own
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(1)
        records = read_records(file)
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name) == ("test", "a run")
    config = {
        item.key: json.loads(item.value_json) for record in records for item in record.config.update
    }
    assert config["seed"] == 3
    history = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        for item in record.history.item
    }
    assert {name: history[f"grid/{name}"] for name in MEANS} == MEANS

    tables = {
        name: json.loads((folder / "files" / history[f"{name}/path"]).read_text())
        for name in ("summary", "scores")
    }
    assert tables["summary"]["columns"][:3] == ["metric", "variant", "value"]
    assert tables["summary"]["data"][0][:5] == ["grid", "base", 0.25, 0.2, 0.3]
    assert tables["scores"]["data"][0] == ["a", 1, "grid", "base", 0.25, ""]
    (lines,) = folder.glob("files/media/table/curves/*.json")
    assert [row[2] for row in json.loads(lines.read_text())["data"]] == [0, 0.2, 1]
    (picture,) = folder.glob("files/media/images/maps_*.png")
    assert history["maps/captions"] == ["a"]
    assert picture.stat().st_size > 1000


def test_wandb_mode_decides_when_it_is_set(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = wandb_logger(str(logged_out))
    assert "offline" in finish(logger)


def test_a_server_that_cannot_be_reached_leaves_the_run_offline(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("var_exp.report.loggers._CONNECT_SECONDS", 2)
    logger = wandb_logger(str(logged_out))
    assert "offline" in finish(logger)
