"""The commands of the README, as a user runs them: from any folder, without a network."""

import csv
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import var_exp
from var_exp.conf_files import conf_dir

pytestmark = pytest.mark.slow
ROOT = conf_dir().parent


@pytest.fixture
def run(python, tmp_path):
    """Runs a script in `tmp_path` with an empty cache and every way to the network closed."""
    closed = "http://127.0.0.1:9"
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "cache"),
        "HTTP_PROXY": closed,
        "HTTPS_PROXY": closed,
        "WANDB_MODE": "offline",
        "COLUMNS": "120",
    }

    def start(script, *arguments, python=python):
        return subprocess.run(
            [python, str(ROOT / script), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return start


def refused(done, *words):
    """The user reads one sentence that has these words, and no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line
    return True


def figures(folder):
    with (folder / "summary.csv").open() as file:
        return {
            (row["metric"], row["variant"]): float(row["value"]) for row in csv.DictReader(file)
        }


def test_the_main_job_ends_with_table_files_and_how_to_sync(run, tmp_path):
    done = run("evaluate.py", "data.count=32", python=sys.executable)
    assert done.returncode == 0, done.stderr
    for text in (
        "grid_pointing_game",
        "var-base",
        "var_same_sparsity",
        "wandb sync",
        "report.html",
    ):
        assert text in done.stdout
    (folder,) = (tmp_path / "runs" / "evaluate" / "gbp_critters_cnn").iterdir()
    assert figures(folder)["grid_pointing_game", "var"] > 0.7
    assert (folder / "report.html").stat().st_size < 10_000_000
    assert done.stdout.splitlines()[-1] == f"now open {folder}/report.html"


def test_a_sweep_over_methods_and_models_is_one_folder_each(run, tmp_path):
    done = run(
        "evaluate.py",
        "-m",
        "method=gbp,gradcam",
        "model=critters_cnn,critters_vit",
        "data.count=16",
        "pictures=1",
        "logger=none",
    )
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "runs" / "sweep").iterdir()
    assert sorted(folder.name for folder in sweep.iterdir() if folder.is_dir()) == [
        "0_gbp_critters_cnn",
        "1_gbp_critters_vit",
        "2_gradcam_critters_cnn",
        "3_gradcam_critters_vit",
    ]
    assert all((folder / "summary.csv").is_file() for folder in sweep.iterdir() if folder.is_dir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=gpb"], ["there is no method=gpb", "did you mean 'gbp'"]),
        (["method.stps=3"], ["method: there is no option 'stps'"]),
        (["modl=vit_b16"], ["there is no option 'modl'", "did you mean 'model'"]),
        (["model.checkpoint=broken.pt"], ["broken.pt", "check model.checkpoint"]),
        (["trainer.accelerator=gpu"], ["trainer"]),
    ],
)
def test_mistakes_end_in_a_sentence_and_exit_code_2(run, tmp_path, arguments, words):
    if torch.cuda.is_available() and "gpu" in arguments[0]:
        pytest.skip("this machine has a GPU")
    (tmp_path / "broken.pt").write_bytes(b"no weights at all")
    done = run("evaluate.py", *arguments)
    assert refused(done, *words)


def test_the_signature_command_without_network_says_what_to_do_within_30_seconds(run):
    started = time.monotonic()
    done = run("evaluate.py", "method=gbp", "model=vit_b16", python=sys.executable)
    assert refused(done, "model.checkpoint=", "model.pretrained=false", "critters_cnn")
    assert time.monotonic() - started < 30


def test_the_signature_command_runs_on_a_local_file_and_imagenet_folders(run, tmp_path):
    torch.manual_seed(0)
    model = var_exp.load_model("vit_b16", pretrained=False)
    torch.save({k: v.half() for k, v in model.state_dict().items()}, tmp_path / "vit.pt")
    noise = np.random.default_rng(0)
    for wordnet_id in ("n01440764", "n01443537", "n01484850", "n15075141"):
        (folder := tmp_path / "imagenet" / wordnet_id).mkdir(parents=True)
        Image.fromarray(noise.integers(0, 255, (260, 300, 3), np.uint8)).save(folder / "a.jpg")
    done = run(
        "evaluate.py",
        "method=gbp",
        "model=vit_b16",
        f"model.checkpoint={tmp_path / 'vit.pt'}",
        f"data.root={tmp_path / 'imagenet'}",
        "logger=none",
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "evaluate" / "gbp_vit_b16").iterdir()
    assert 0 <= figures(folder)["grid_pointing_game", "base"] <= 1


def test_training_writes_weights_that_evaluate_takes(run, tmp_path):
    quick = ["recipe.pictures=256", "recipe.pool=128", "recipe.batch_size=64", "workers=0"]
    quick += ["checked=20"]
    done = run("train.py", *quick)
    assert done.returncode == 0, done.stderr
    (weights,) = tmp_path.glob("runs/train/critters_cnn/*/checkpoint.safetensors")
    done = run("evaluate.py", f"model.checkpoint={weights}", "data.count=16", "logger=none")
    assert done.returncode == 0, done.stderr


def test_a_sweep_ends_in_one_table_that_names_what_failed(run, tmp_path):
    done = run(
        "evaluate.py",
        "-m",
        "method=gbp,gradcam",
        "refine.var.temperature=10,-1",
        "data.count=8",
        "logger=none",
        "pictures=0",
        "hydra.sweep.dir=sweep",
    )
    assert done.returncode == 1
    assert "2 of 4 runs merged" in done.stdout
    assert "failed: method=gbp refine.var.temperature=-1: refine.var: temperature must be" in (
        done.stdout
    )
    assert "Traceback" not in done.stderr
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["method"] for line in lines} == {"gbp", "gradcam"}
    assert {line["refine.var.temperature"] for line in lines} == {"10"}
    single = figures(tmp_path / "sweep" / "2_gradcam_critters_cnn")
    merged = {
        (line["metric"], line["variant"]): float(line["value"])
        for line in lines
        if line["method"] == "gradcam"
    }
    assert merged == single
    assert "| `gradcam` |" in (tmp_path / "sweep" / "sweep.md").read_text()
    assert (tmp_path / "sweep" / "sweep.png").stat().st_size > 3000


def test_a_method_of_the_users_own_as_the_docs_show_it(run, python, tmp_path):
    page = (ROOT / "docs" / "own.md").read_text(encoding="utf-8")
    section = page.split("## A method")[1].split("\n## ")[0]
    blocks = re.findall(r"```(\w*)\n(.*?)```", section, re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "yaml", "bash", "bash"]
    for _, text in blocks[:2]:
        file = tmp_path / re.match(r"# (\S+)\n", text)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (call,) = re.findall(r"In Python that is all: `(.*?)`", section)
    in_python = (
        "import torch, var_exp\nfrom my_methods import PowerGradient\n"
        "model = var_exp.load_model('critters_cnn')\n"
        "images, classes = torch.randn(2, 3, 64, 64), torch.tensor([[0, 1], [2, 3]])\n"
        f"maps = {call}\n"
        "gradients = var_exp.get_method('gradient').attribute(model, images, classes)\n"
        "assert torch.equal(maps, gradients.abs())\n"
    )
    (tmp_path / "in_python.py").write_text(in_python)
    done = subprocess.run([python, "in_python.py"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr

    python, script, *arguments = shlex.split(blocks[2][1])
    assert (python, Path(script).name) == ("python", "evaluate.py")
    done = run("evaluate.py", *arguments, "logger=none", "pictures=1")
    assert done.returncode == 0, done.stderr
    assert "grid_pointing_game" in done.stdout
    (folder,) = (tmp_path / "runs" / "evaluate" / "power_gradient_critters_cnn").iterdir()
    assert 0.15 < figures(folder)["grid_pointing_game", "base"] < 0.4
    assert (
        "_target_: my_methods.PowerGradient\n  power: 1.0" in (folder / "config.yaml").read_text()
    )

    done = run("evaluate.py", "--config-dir=mine", "method=power_gradient")
    assert refused(done, "mine'; check --config-dir")
