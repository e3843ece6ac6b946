"""Which scaled mode of VAR never hurts: settings x methods x numbers of competing classes.

    python benchmarks/scaled_mode.py                      # all methods, both critters models
    python benchmarks/scaled_mode.py --methods gbp,lrp --models critters_cnn
    python benchmarks/scaled_mode.py --models efficientnet_lite0 --photographs val --few

Grids of critters, or of photographs; the grid pointing game of each of a grid's four classes,
before and after VAR with each setting. K = 2 lets a class compete with the next one of the grid, 4
with the whole grid, 8 and 16 with other classes too. What is done lies in --out and is not done
again.
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

SCALES = {"none": [10.0], "max": [10.0, 30.0], "rms": [1.0, 3.0, 10.0], "class_rms": [3.0]}
TAUS = [0.01, 0.05]
SETTINGS = [
    (scale, temperature, magnitude, channels, tau)
    for scale, temperatures in SCALES.items()
    for temperature, magnitude, channels, tau in itertools.product(
        temperatures, ["abs", "signed", "positive"], ["separate", "sum"], TAUS
    )
]
CHOSEN = ("rms", 3.0, "signed", "sum", 0.01)
FEW = [  # with --few: paper mode, the chosen setting, and what differs from it in one option
    ("none", 10.0, "abs", "separate", 0.01),
    ("max", 10.0, "abs", "separate", 0.01),
    ("rms", 1.0, "signed", "sum", 0.01),
    CHOSEN,
    ("rms", 10.0, "signed", "sum", 0.01),
    ("rms", 3.0, "abs", "sum", 0.01),
    ("rms", 3.0, "positive", "sum", 0.01),
    ("rms", 3.0, "signed", "separate", 0.01),
    ("rms", 3.0, "abs", "separate", 0.01),
    ("class_rms", 3.0, "signed", "sum", 0.01),
    ("class_rms", 3.0, "abs", "separate", 0.01),
]
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


def scores_of(maps, regions, k, settings):
    """Scores [settings, B, 4] of the refined maps of each grid's classes among K."""
    found = np.empty((len(settings), len(maps), 4))
    for c, competing in enumerate(competitors(maps, k)):
        targets = [c] if k == 2 else range(4)
        for (scale, temperature, magnitude, channels), group in itertools.groupby(
            range(len(settings)), key=lambda s: settings[s][:4]
        ):
            shares = class_distribution(competing, temperature, magnitude, scale, channels)
            values = competing.sum(2, keepdim=True) if channels == "sum" else competing
            for s in group:
                for column, a in enumerate(targets):
                    share = shares[:, column]
                    kept = values[:, column] * share * (share - 1 / k > settings[s][4])
                    found[s, :, a] = grid_pointing_game(kept, regions[:, a])
    return found


def study(model, method, dataset, spec, count, competing, settings):
    """Base scores [grids, 4] and refined scores [K, settings, grids, 4]."""
    base, refined = [], []
    for start in track(range(0, count, 4), description=type(method).__name__):
        (batch,) = collate([dataset[i] for i in range(start, min(start + 4, count))], spec)
        others = random_others(
            batch.classes, len(dataset.class_names), max(*competing, 4) - 4, batch.ids, 0
        )
        every = torch.cat([batch.classes, others], 1)
        maps = method.attribute(model, batch.images, every, ids=batch.ids)
        regions = batch.regions
        base.append(
            torch.stack(
                [grid_pointing_game(maps[:, a], regions[:, a]) for a in range(4)], 1
            ).numpy()
        )
        refined.append(np.stack([scores_of(maps, regions, k, settings) for k in competing]))
    return np.concatenate(base), np.concatenate(refined, axis=2)


def difference(refined, base):
    """Mean difference and its 95 % interval over grids."""
    found = estimate((refined - base).ravel(), np.repeat(np.arange(len(base)), 4))
    return found.value, found.low, found.high


def in_words(refined, base):
    """The same as text."""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference(refined, base))


def report(found, competing, settings):
    """Settings in the order of merit: never worse where the base is above chance, then the gain."""
    rows = []
    informative = {}
    for name, (base, _) in found.items():
        informative[name] = estimate(base.ravel(), np.repeat(np.arange(len(base)), 4)).low > 0.25
    names = [name for name in found if informative[name]]
    print(f"base at chance, left out: {', '.join(n for n in found if not informative[n]) or '-'}")
    for s, setting in enumerate(settings):
        worse, gains = [], {k: [] for k in competing}
        for name in names:
            base, refined = found[name]
            for i, k in enumerate(competing):
                mean, _, high = difference(refined[i, s], base)
                gains[k].append(mean)
                if high < 0:
                    worse.append((name, k, mean))
        lowest = min((mean for _, _, mean in worse), default=0.0)
        rows.append((len(worse), lowest, setting, {k: np.mean(v) for k, v in gains.items()}, worse))
    rows.sort(key=lambda row: (row[0], -np.mean(list(row[3].values()))))
    print(f"{len(names)} method x model pairs above chance, K = {competing}")
    print("| scale | T | magnitude | channels | tau | significantly worse | worst |", end="")
    print("".join(f" gain K={k} |" for k in competing), "worse |")
    print("|" + "---|" * (8 + len(competing)))
    for count, lowest, setting, gains, worse in rows:
        cells = " | ".join(str(value) for value in setting)
        steps = " | ".join(f"{gains[k]:+.3f}" for k in competing)
        who = ", ".join(f"{name} K={k} {mean:+.3f}" for name, k, mean in sorted(worse)[:3])
        print(f"| {cells} | {count} | {lowest:+.3f} | {steps} | {who} |")


def main():
    """Measure what is not measured yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(list_methods()))
    parser.add_argument("--models", default="critters_cnn,critters_vit")
    parser.add_argument("--grids", type=int, default=100)
    parser.add_argument("--photographs", help="root of ImageNet's pictures; cells of half the side")
    parser.add_argument("--seed", type=int, default=0, help="which pictures meet in a grid")
    parser.add_argument("--competing", default="2,4,8,16", help="numbers of classes")
    parser.add_argument("--few", action="store_true", help="11 settings rather than all")
    parser.add_argument("--each", action="store_true", help="print the differences of each pair")
    parser.add_argument("--out", type=Path, default=Path("runs/scaled_mode"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    competing = [int(k) for k in options.competing.split(",")]
    settings = FEW if options.few else SETTINGS
    told = f"{options.seed}_{options.competing}_{'few' if options.few else 'all'}"
    found = {}
    for model_name, alias in itertools.product(
        options.models.split(","), options.methods.split(",")
    ):
        file = options.out / f"{model_name}_{alias}_{options.grids}_{told}.npz"
        if not file.exists():
            model = load_model(model_name)
            spec = input_spec(model)
            if options.photographs:
                data = from_alias("data", "imagenet", root=options.photographs, spec=spec)
                layout = {"cell": "rescaled", "confidence": 0.3, "model": model}
            else:
                data = from_alias("data", "critters", count=4 * options.grids)
                layout = {}
            dataset = from_alias(
                "layout", "grid", dataset=data, spec=spec, seed=options.seed, **layout
            )
            method = get_method(alias, **CHEAP.get(alias, {}))
            try:
                if not method.class_specific:
                    raise UnsupportedModel("one map for all classes.")
                method.check(model, collate([dataset[0]], spec)[0].images)
            except UnsupportedModel as error:
                print(f"{alias} on {model_name}: {error}", file=sys.stderr)
                continue
            base, refined = study(model, method, dataset, spec, options.grids, competing, settings)
            np.savez_compressed(file, base=base, refined=refined)
        with np.load(file) as stored:
            found[f"{alias}/{model_name.removeprefix('critters_')}"] = (
                stored["base"],
                stored["refined"],
            )
    report(found, competing, settings)
    if options.each:
        for (name, (base, refined)), (s, setting) in itertools.product(
            found.items(), enumerate(settings)
        ):
            for i, k in enumerate(competing):
                words = " ".join(str(word) for word in setting)
                print(
                    f"{name} K={k} {words}: {in_words(refined[i, s], base)}, against the chosen "
                    f"{in_words(refined[i, s], refined[i, settings.index(CHOSEN)])}"
                )


if __name__ == "__main__":
    main()
