"""What a run would cost, said before it begins."""

import re

from var_exp.runs.evaluation import evaluate


def test_passes_scores_and_maps_are_those_of_the_run(composed, tmp_path, capsys):
    """gbp: two forward passes (logits, method); a pointing game for 4 of 4 classes of 12 grids."""
    some = "random_competitors=3"  # of 12, which the others cost less than
    options = ("data.count=48", "pictures=0", "logger=none", "trainer=cpu", "maps=true", some)
    assert evaluate(composed(*options, "dry_run=true"), tmp_path) == []
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().out
    assert re.match(r"12 samples, 2\.0 forward passes each; about \d+ s here \(\d+ ms each, ", said)
    evaluate(composed(*options), tmp_path)
    rows = len((tmp_path / "scores.csv").read_text().splitlines()) - 1
    maps = sum(file.stat().st_size for file in (tmp_path / "maps").glob("*.safetensors"))
    assert f"{rows:,} scores, {maps / 1e6:.1f} MB of maps" in said


def test_the_estimate_is_no_other_run(composed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("data.count=16", "layout=single", "classes=top_k", "metric=[insertion_auc_coarse]")
    evaluate(composed(*options, "dry_run=true", "controls=false"), tmp_path)
    # logits, the method, and a picture for each of 28 steps, of base and refined map
    assert "16 samples, " in capsys.readouterr().out


def test_pictures_of_maps_are_counted(composed, tmp_path, capsys):
    options = ("data.count=16", "pictures=0", "logger=none", "trainer=cpu", "maps=overlays")
    evaluate(composed(*options, "dry_run=true"), tmp_path)
    said = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    evaluate(composed(*options), tmp_path)
    kept = [
        f for f in (tmp_path / "maps").rglob("*") if f.suffix in (".safetensors", ".png", ".jpg")
    ]
    assert len(kept) == 1 + 2 * 4  # four grids in a batch
    total = sum(file.stat().st_size for file in kept)
    assert f"{total / 1e6:.1f} MB of maps" in said
