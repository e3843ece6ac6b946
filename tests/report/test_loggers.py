"""What a real offline W&B run wrote is read back from its files."""

import io
import json
import socket
import struct
import sys
import time
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from named_variants import variant
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from var_exp.report.dashboard import LoggedRun, log_results
from var_exp.report.loggers import finish, logged_in, tensorboard_logger, wandb_logger
from var_exp.report.panel_picture import panel_picture
from var_exp.report.panels import Panel
from var_exp.results.curves import Curves
from var_exp.results.rows import Row
from var_exp.results.summary import SummaryRow
from var_exp.types import ConfigError


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


def test_a_run_that_goes_on_in_its_folder_is_one_run_in_wandb(logged_out, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    folders = [logged_out / name for name in ("one", "one", "other")]
    ids = []
    for folder in folders:
        logger = wandb_logger(str(folder))
        ids.append(logger.experiment.id)
        logger.experiment.finish()
    assert ids[0] == ids[1] != ids[2]
    monkeypatch.setenv("WANDB_RUN_ID", "of_an_agent")
    logger = wandb_logger(str(folders[0]))
    assert logger.experiment.id == "of_an_agent"
    logger.experiment.finish()


@pytest.fixture(scope="module")
def told():
    """A run of two samples, as the dashboards are told of it."""
    panel = Panel(
        sample_id="a",
        image=torch.zeros(3, 32, 32, dtype=torch.uint8),
        class_names=["one", "two"],
        asked=2,
        maps={"base": torch.randn(2, 1, 32, 32), "var": torch.zeros(2, 1, 32, 32)},
        kind="best",
        scores={"base": [0.2, 0.4], "var": [0.75, float("nan")]},
    )
    return LoggedRun(
        config={"seed": 3, "method": {"_target_": "gbp"}},
        summary=[
            SummaryRow("grid", variant("base"), 0.25, 0.2, 0.3, 4),
            SummaryRow("grid", variant("var"), 0.75, 0.7, 0.8, 4),
            SummaryRow("grid", variant("var-base"), 0.5, 0.4, 0.6, 4),
        ],
        directions={"grid": True},
        rows=[
            Row("a", 1, "grid", variant("base"), 0.25),
            Row("a", 2, "grid", variant("base"), nan, "tied"),
        ],
        panels=[panel],
        curves=[
            Curves(
                "grid", "share", "probability", [0, 0.5, 1], {"base": [0, 0.2, 1], "var": [1, 1, 1]}
            )
        ],
    )


def test_an_offline_run_holds_metrics_tables_pictures_and_curves(logged_out, told):
    logger = wandb_logger(str(logged_out), project="test", name="a run")
    where = log_results(logger, told)

    (folder,) = logged_out.glob("wandb/offline-run-*")
    assert where == f"W&B is offline; upload with: wandb sync {folder}"
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
        for name in ("summary", "scores", "gallery")
    }
    assert tables["summary"]["columns"][:3] == ["metric", "variant", "value"]
    assert tables["summary"]["data"][0][:5] == ["grid", "base", 0.25, 0.2, 0.3]
    assert tables["scores"]["data"][0] == ["a", 1, "grid", "base", 0.25, "", "base", ""]
    (lines,) = folder.glob("files/media/table/curves/*.json")
    assert [row[2] for row in json.loads(lines.read_text())["data"]] == [0, 0.2, 1, 1, 1, 1]
    (bars,) = folder.glob("files/media/table/means/grid_table*.json")
    assert json.loads(bars.read_text())["data"] == [
        ["base", 0.25],
        ["var", 0.75],
        ["var-base", 0.5],
    ]
    columns, row = tables["gallery"]["columns"], tables["gallery"]["data"][0]
    assert columns == ["sample", "shown as", "model says", "base score", "var score", "maps"]
    assert row[:5] == ["a", "best", "", pytest.approx(0.3), 0.75]
    paths = [
        entry.path
        for record in records
        if record.WhichOneof("record_type") == "artifact"
        for entry in record.artifact.manifest.contents
    ]
    assert sum(path.endswith(".png") for path in paths) == 1  # the table's picture
    (picture,) = folder.glob("files/media/images/maps_*.png")
    assert history["maps/captions"] == ["a"]
    assert picture.stat().st_size > 1000


def test_tensorboard_holds_scalars_tables_pictures_curves_and_hyperparameters(tmp_path, told):
    logger = tensorboard_logger(str(tmp_path))
    where = log_results(logger, told)
    assert where == f"TensorBoard: tensorboard --logdir {tmp_path / 'tensorboard'}"
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    curve = [(event.step, event.value) for event in events.Scalars("curves/grid/base")]
    assert curve == [(0, 0), (500, pytest.approx(0.2)), (1000, 1)]
    assert [events.Scalars(f"grid/{name}")[0].value for name in ("base", "var-base")] == [0.25, 0.5]
    assert set(tags["images"]) == {"maps/a", "curves"}
    (picture,) = events.Images("maps/a")
    expected = panel_picture(told.panels[0])
    shown = Image.open(io.BytesIO(picture.encoded_image_string))
    assert np.array_equal(np.asarray(shown), np.asarray(expected))
    (table,) = events.Tensors("summary/grid (higher is better)/text_summary")
    assert b"| `var-base` | +0.500 | [+0.400, +0.600] | 4 |" in table.tensor_proto.string_val[0]
    assert "_hparams_/session_start_info" in events.summary_metadata
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"method/_target_" in start
    assert b"seed" in start


def test_tensorboard_that_is_not_installed_is_named(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ModuleNotFoundError

    monkeypatch.setattr("var_exp.report.loggers.TensorBoardLogger", missing)
    with pytest.raises(ConfigError, match="var_exp\\[tensorboard\\]"):
        tensorboard_logger(str(tmp_path))


def test_wandb_mode_decides_when_it_is_set(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = wandb_logger(str(logged_out))
    assert "offline" in finish(logger)


def test_pictures_alone_are_logged_only_where_that_was_asked_for(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_logger(str(logged_out), pictures_alone=False, measured=False) is None
    assert list(logged_out.iterdir()) == []
    for asked in ({"measured": False}, {"pictures_alone": False}):  # logger=wandb; a measure
        logger = wandb_logger(str(logged_out), **asked)
        assert "offline" in finish(logger)


def test_a_server_that_cannot_be_reached_leaves_the_run_offline(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("var_exp.report.loggers._CONNECT_SECONDS", 2)
    logger = wandb_logger(str(logged_out))
    assert "offline" in finish(logger)


@pytest.mark.parametrize("mode", ["disabled", "onlin", "ofline"])
def test_a_mode_that_is_off_writes_nothing_and_a_misspelt_one_is_named(
    logged_out, monkeypatch, mode
):
    monkeypatch.setenv("WANDB_MODE", mode)
    if mode == "disabled":
        assert wandb_logger(str(logged_out)) is None
    else:
        with pytest.raises(ConfigError, match=f"WANDB_MODE={mode} is no mode.*did you mean"):
            wandb_logger(str(logged_out))
    assert list(logged_out.iterdir()) == []


def test_wandb_is_told_no_host_user_or_path(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = wandb_logger(str(logged_out))
    logger.log_hyperparams(
        LoggedRun({"data": {"root": "/home/ann/cats"}}, [], {}, [], [], []).public_config
    )
    finish(logger)
    wandb.teardown()  # the service may write the file a moment after the run is finished
    for _ in range(100):
        told = b"".join(
            file.read_bytes()
            for file in logged_out.rglob("*")
            if file.is_file() and (file.suffix == ".wandb" or "files" in file.parts)  # what goes up
        )
        if "…/cats".encode() in told or b"\\u2026/cats" in told:
            break
        time.sleep(0.2)
    else:
        pytest.fail("the configuration is nowhere")
    assert b"/home/ann" not in told
    assert socket.gethostname().encode() not in told
    assert str(logged_out).encode() not in told
    assert sys.executable.encode() not in told


@pytest.mark.parametrize(("name", "value"), [("WANDB_PROJECT", "a/b:c"), ("WANDB_SILENT", "maybe")])
def test_settings_that_wandb_refuses_are_one_sentence(logged_out, monkeypatch, name, value):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"^W&B refuses its settings \(.+\); mend ") as caught:
        wandb_logger(str(logged_out))
    assert str(caught.value).isprintable()
    monkeypatch.delenv(name)
    wandb.teardown()
