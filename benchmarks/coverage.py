"""How often an interval covers the true mean, and how often a verdict is wrong, by simulation.

    python benchmarks/coverage.py [TRIALS]

Every picture has four scores that share its part of the distribution. "before" is the percentile
bootstrap of whole pictures, "Student" the t-interval of the pictures' means, "now" what a
`summary.csv` holds (see `var_exp.results.intervals`). The second table draws differences whose true
mean is 0 and counts the verdicts, each of which is wrong. "Wilcoxon" is the signed-rank test, 5 %.
"""

import sys
from collections.abc import Callable
from math import exp

import numpy as np
from scipy import stats

from var_exp.results.intervals import estimate
from var_exp.results.significance import verdict_level

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

COVERED: dict[str, tuple[Draw, float]] = {
    "Gaussian": (lambda g, shape: g.normal(size=shape), 0.0),
    "bounded, U-shaped": (lambda g, shape: g.beta(0.5, 0.5, size=shape), 0.5),
    "bounded, skewed": (lambda g, shape: g.beta(5, 1, size=shape), 5 / 6),
    "lognormal": (lambda g, shape: g.lognormal(size=shape), exp(0.5)),
}
NULL: dict[str, Draw] = {
    "Gaussian": lambda g, shape: g.normal(size=shape),
    "heavy tails (t, 3 degrees)": lambda g, shape: g.standard_t(3, size=shape),
    "skewed (exponential - 1)": lambda g, shape: g.exponential(size=shape) - 1,
    "very skewed (lognormal - mean)": lambda g, shape: g.lognormal(size=shape) - exp(0.5),
}
CLASSES, RESAMPLES = 4, 400


def scores_of(draw: Draw, generator: np.random.Generator, pictures: int) -> np.ndarray:
    """Scores [pictures, CLASSES]: the picture's part, and a little of each class's own."""
    own = generator.normal(0, 0.1, size=(pictures, CLASSES))
    return draw(generator, (pictures, 1)) + own - own.mean(1, keepdims=True)


def percentile_bootstrap(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Both ends of the 95 % percentile interval over whole pictures."""
    draws = generator.integers(len(scores), size=(RESAMPLES, len(scores)))
    ends: np.ndarray = np.percentile(scores.mean(1)[draws].mean(1), [2.5, 97.5])
    return ends


def coverage(trials: int) -> None:
    """Print how often each interval covers the true mean."""
    print("| distribution | pictures | before | Student | now | width now / Student |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (draw, mean) in COVERED.items():
        for pictures in (5, 10, 20, 50, 200):
            generator = np.random.default_rng(0)
            owners = np.repeat(np.arange(pictures), CLASSES)
            hits, widths = np.zeros(3), np.zeros(2)
            for _ in range(trials):
                scores = scores_of(draw, generator, pictures)
                found = estimate(scores.ravel(), owners)
                student = found.error * stats.t.ppf(0.975, pictures - 1)
                ends = [
                    percentile_bootstrap(scores, generator),
                    (found.value - student, found.value + student),
                    (found.low, found.high),
                ]
                hits += [low <= mean <= high for low, high in ends]
                widths += [2 * student, found.high - found.low]
            shares = " | ".join(f"{share:.3f}" for share in hits / trials)
            print(f"| {name} | {pictures} | {shares} | {widths[1] / widths[0]:.2f} |", flush=True)


def false_verdicts(trials: int) -> None:
    """Print how often there is a verdict where the true mean difference is 0."""
    print("\n| differences of mean 0 | pictures | Wilcoxon | interval excludes 0 | verdict |")
    print("| --- | --- | --- | --- | --- |")
    for name, draw in NULL.items():
        for pictures in (9, 10, 20, 49, 50, 200):
            generator = np.random.default_rng(1)
            wrong = np.zeros(3)
            for _ in range(trials):
                scores = scores_of(draw, generator, pictures)
                found = estimate(scores.ravel(), np.repeat(np.arange(pictures), CLASSES))
                wrong += [
                    stats.wilcoxon(scores.mean(1)).pvalue < 0.05,
                    not found.low <= 0 <= found.high,
                    found.p_value < verdict_level(pictures),
                ]
            shares = " | ".join(f"{share:.3f}" for share in wrong / trials)
            print(f"| {name} | {pictures} | {shares} |", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    coverage(count)
    false_verdicts(count)
