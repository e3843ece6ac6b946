"""Which scaled mode of VAR never hurts: settings x methods x numbers of competing classes.

    python benchmarks/scaled_mode.py                      # all methods, both critters models
    python benchmarks/scaled_mode.py --methods gbp,lrp --models critters_cnn

Grids of critters; the grid pointing game of each of a grid's four classes, before and after VAR
with each setting. K = 2 lets a class compete with the next one of the grid, 4 with the whole grid,
8 and 16 with other classes too. What is done lies in --out and is not done again.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from var_exp import get_method, list_methods, load_model
from var_exp.classes import random_others
from var_exp.data.batches import collate
from var_exp.metrics.grid_pointing_game import grid_pointing_game
from var_exp.models import input_spec
from var_exp.refine.var import class_distribution
from var_exp.registry import from_alias
from var_exp.results.intervals import estimate
from var_exp.types import UnsupportedModel

SCALES = {"none": [10.0], "max": [10.0, 30.0], "rms": [1.0, 3.0, 10.0]}
TAUS = [0.01, 0.05]
SETTINGS = [
    (scale, temperature, magnitude, channels, tau)
    for scale, temperatures in SCALES.items()
    for temperature, magnitude, channels, tau in itertools.product(
        temperatures, ["abs", "signed", "positive"], ["separate", "sum"], TAUS
    )
]
COMPETING = [2, 4, 8, 16]
CHEAP = {  # fewer passes than the defaults, for methods with many
    "gradient_shap": {"samples": 8},
    "idg": {"steps": 8},
    "ig": {"steps": 8},
    "kernel_shap": {"samples": 256},
    "lime": {"samples": 256},
    "rise": {"masks": 256},
    "smoothgrad": {"samples": 8},
    "vargrad": {"samples": 8},
}


def competitors(maps, k):
    """The four sets of K maps in which each of the grid's classes is the target, in column 0."""
    if k == 2:
        return [maps[:, [a, (a + 1) % 4]] for a in range(4)]
    # one softmax serves all four targets
    return [maps[:, :k]]


def scores_of(maps, regions, k):
    """Scores [settings, B, 4] of the refined maps of each grid's classes among K."""
    found = np.empty((len(SETTINGS), len(maps), 4))
    for c, competing in enumerate(competitors(maps, k)):
        targets = [c] if k == 2 else range(4)
        for (scale, temperature, magnitude, channels), group in itertools.groupby(
            range(len(SETTINGS)), key=lambda s: SETTINGS[s][:4]
        ):
            shares = class_distribution(competing, temperature, magnitude, scale, channels)
            values = competing.sum(2, keepdim=True) if channels == "sum" else competing
            for s in group:
                for column, a in enumerate(targets):
                    share = shares[:, column]
                    kept = values[:, column] * share * (share - 1 / k > SETTINGS[s][4])
                    found[s, :, a] = grid_pointing_game(kept, regions[:, a])
    return found


def study(model, method, dataset, spec, count):
    """Base scores [grids, 4] and refined scores [K, settings, grids, 4]."""
    base, refined = [], []
    for start in track(range(0, count, 4), description=type(method).__name__):
        (batch,) = collate([dataset[i] for i in range(start, min(start + 4, count))], spec)
        others = random_others(batch.classes, 16, 12, batch.ids, 0)
        every = torch.cat([batch.classes, others], 1)
        maps = method.attribute(model, batch.images, every, ids=batch.ids)
        regions = batch.regions
        base.append(
            torch.stack(
                [grid_pointing_game(maps[:, a], regions[:, a]) for a in range(4)], 1
            ).numpy()
        )
        refined.append(np.stack([scores_of(maps, regions, k) for k in COMPETING]))
    return np.concatenate(base), np.concatenate(refined, axis=2)


def difference(refined, base):
    """Mean difference and its 95 % interval over grids."""
    found = estimate((refined - base).ravel(), np.repeat(np.arange(len(base)), 4))
    return found.value, found.low, found.high


def report(found):
    """Settings in the order of merit: never worse where the base is above chance, then the gain."""
    rows = []
    informative = {}
    for name, (base, _) in found.items():
        informative[name] = estimate(base.ravel(), np.repeat(np.arange(len(base)), 4)).low > 0.25
    names = [name for name in found if informative[name]]
    print(f"base at chance, left out: {', '.join(n for n in found if not informative[n]) or '-'}")
    for s, setting in enumerate(SETTINGS):
        worse, gains = [], {k: [] for k in COMPETING}
        for name in names:
            base, refined = found[name]
            for i, k in enumerate(COMPETING):
                mean, _, high = difference(refined[i, s], base)
                gains[k].append(mean)
                if high < 0:
                    worse.append((name, k, mean))
        lowest = min((mean for _, _, mean in worse), default=0.0)
        rows.append((len(worse), lowest, setting, {k: np.mean(v) for k, v in gains.items()}, worse))
    rows.sort(key=lambda row: (row[0], -np.mean(list(row[3].values()))))
    print(f"{len(names)} method x model pairs above chance, K = {COMPETING}")
    print("| scale | T | magnitude | channels | tau | significantly worse | worst |", end="")
    print("".join(f" gain K={k} |" for k in COMPETING), "worse |")
    print("|" + "---|" * (8 + len(COMPETING)))
    for count, lowest, setting, gains, worse in rows:
        cells = " | ".join(str(value) for value in setting)
        steps = " | ".join(f"{gains[k]:+.3f}" for k in COMPETING)
        who = ", ".join(f"{name} K={k} {mean:+.3f}" for name, k, mean in sorted(worse)[:3])
        print(f"| {cells} | {count} | {lowest:+.3f} | {steps} | {who} |")


def main():
    """Measure what is not measured yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(list_methods()))
    parser.add_argument("--models", default="critters_cnn,critters_vit")
    parser.add_argument("--grids", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/scaled_mode"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for model_name, alias in itertools.product(
        options.models.split(","), options.methods.split(",")
    ):
        file = options.out / f"{model_name}_{alias}_{options.grids}.npz"
        if not file.exists():
            model = load_model(model_name)
            spec = input_spec(model)
            data = from_alias("data", "critters", count=4 * options.grids)
            dataset = from_alias("layout", "grid", dataset=data, spec=spec)
            method = get_method(alias, **CHEAP.get(alias, {}))
            try:
                if not method.class_specific:
                    raise UnsupportedModel("one map for all classes.")
                method.check(model, collate([dataset[0]], spec)[0].images)
            except UnsupportedModel as error:
                print(f"{alias} on {model_name}: {error}", file=sys.stderr)
                continue
            base, refined = study(model, method, dataset, spec, options.grids)
            np.savez_compressed(file, base=base, refined=refined)
        with np.load(file) as stored:
            found[f"{alias}/{model_name.removeprefix('critters_')}"] = (
                stored["base"],
                stored["refined"],
            )
    report(found)


if __name__ == "__main__":
    main()
