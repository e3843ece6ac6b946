"""The command as people install it: from a wheel, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

import var_exp
from var_exp.__main__ import main
from var_exp.methods.map_files import SavedMaps

ROOT = Path(__file__).parents[2]
CAT = Path(skimage.__file__).parent / "data/chelsea.png"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what a wheel of this checkout installs."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *wheel], check=True, timeout=300)
    (file,) = folder.glob("*.whl")
    to = ["install", "--no-deps", "-q", "--target", str(folder / "site"), str(file)]
    subprocess.run([sys.executable, "-m", "pip", *to], check=True, timeout=300)
    return folder / "site"


@pytest.fixture
def run(installed, tmp_path):
    """Runs `python -m var_exp …` in an empty folder; returns exit code, output and errors."""

    def start(*words, python=sys.executable):
        environment = {**os.environ, "PYTHONPATH": str(installed), "WANDB_MODE": "offline"}
        done = subprocess.run(
            [python, "-m", "var_exp", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr

    return start


@pytest.mark.slow
def test_a_wheel_needs_no_checkout(run, installed, tmp_path):
    code, out, err = run("evaluate", "data.count=8", "pictures=1", "logger=none")
    assert (code, err) == (0, "")
    assert "var-base" in out
    (config,) = tmp_path.glob("runs/evaluate/*/*/config.yaml")
    assert "var_exp.data.critters.Critters" in config.read_text()
    assert (installed / "bin/var-exp").is_file()


@pytest.mark.slow
def test_command_python_and_named_classes_agree_to_the_last_digit(run, python, tmp_path):
    code, out, _ = run(
        *("explain", str(CAT), "tabby", "Egyptian cat"),
        *("--model", "efficientnet_lite0", "-o", "why.png"),
    )
    assert code == 0
    sentence = (
        "Egyptian cat 0.36 rather than tabby 0.17 (tf_efficientnet_lite0, gradcam, var_scaled)"
    )
    assert out.splitlines() == [sentence, "written to why.png"]
    assert (tmp_path / "why.png").stat().st_size > 10_000
    why = var_exp.explain("efficientnet_lite0", CAT, ["tabby", "Egyptian cat"])
    assert str(why) == sentence

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").write_bytes(CAT.read_bytes())
    code, out, err = run(
        *("evaluate", "data=folder", "data.root=photos", "model=efficientnet_lite0", "maps=true"),
        *("classes=named", "classes.names=[tabby,Egyptian cat]", "logger=none"),
        "hydra.run.dir=named",
        python=python,  # that a wheel is enough is tested above
    )
    assert (code, err) == (0, "")
    saved = SavedMaps(tmp_path / "named/maps")
    for place, number in enumerate(why.classes):
        for variant, maps in (("base", why.base), ("var_scaled", why.maps)):
            assert np.array_equal(saved["cat.png", number, variant], maps[place].numpy())
    page = (tmp_path / "named/report.html").read_text()
    assert "Egyptian cat (tabby)" not in page


def test_help_and_mistakes(capsys):
    assert main(["--help"]) == 0
    assert "explain PICTURE [CLASS …]" in capsys.readouterr().out
    assert main([]) == 2
    capsys.readouterr()
    assert main(["explian"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no command 'explian' (did you mean 'explain'?); explain, evaluate, train, "
        "sweep, figures, support.\n"
    )
    assert main(["explain", str(CAT), "taby", "--model", "efficientnet_lite0"]) == 2
    assert "did you mean 'tabby'" in capsys.readouterr().err


def test_the_package_imports_what_it_offers_when_it_is_used():
    code = "import sys, var_exp; assert 'torch' not in sys.modules; var_exp.metrics.functional.iou"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no attribute 'iou'" in done.stderr
    assert set(var_exp.__all__) <= set(dir(var_exp))
    assert all(getattr(var_exp, name) is not None for name in var_exp.__all__)
    assert torch.equal(var_exp.VAR()(torch.zeros(1, 2, 1, 2, 2)), torch.zeros(1, 2, 1, 2, 2))


def test_one_picture_waits_for_no_training_loop():
    """Lightning, and what it brings along, takes as long to import as everything else together."""
    code = (
        "import sys, var_exp; var_exp.explain\n"
        "assert not {'lightning', 'torchmetrics', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
