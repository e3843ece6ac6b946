"""The arguments of the commands that Hydra does not read; no heavy import, so `--help` is quick."""

import argparse
import sys
from pathlib import Path

KINDS = ("grid", "classes", "cutout", "curves")
"""Figures that `var-exp figures` draws."""


def explain_parser() -> argparse.ArgumentParser:
    """Of `var-exp explain`."""
    parser = argparse.ArgumentParser(
        prog="var-exp explain",
        description="Why this class, and not that one? One sentence and one picture.",
    )
    parser.add_argument("picture", help="a file")
    parser.add_argument(
        "classes",
        nargs="*",
        metavar="CLASS",
        default=[],  # else argparse calls them required
        help="names, WordNet ids or numbers; default: top k",
    )
    parser.add_argument("--model", default="efficientnet_lite2", help="alias or any timm name")
    parser.add_argument("--checkpoint", metavar="FILE", help="local file with its weights")
    parser.add_argument("--method", help="alias of the attribution method; default: gradcam")
    parser.add_argument("--refine", help="alias of the refiner; default: what suits the method")
    parser.add_argument("--k", type=int, default=4, help="how many compete when none is named")
    parser.add_argument("-o", "--out", metavar="FILE", help="the picture; default: NAME_why.png")
    return parser


def sweep_parser() -> argparse.ArgumentParser:
    """Of `var-exp sweep`."""
    parser = argparse.ArgumentParser(
        prog="var-exp sweep", description="Runs side by side: tables, picture, page."
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, or of a sweep")
    parser.add_argument("--out", type=Path, help="where the page goes; default: the one folder")
    return parser


def figures_parser() -> argparse.ArgumentParser:
    """Of `var-exp figures`."""
    parser = argparse.ArgumentParser(
        prog="var-exp figures", description="Figures for a paper from finished runs."
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="of runs or of sweeps")
    parser.add_argument("--out", type=Path, metavar="PATH", help="without ending; default: KIND")
    parser.add_argument("--samples", nargs="+", metavar="ID", help="as in scores.csv")
    parser.add_argument("--count", type=int, help="how many samples, when none is named")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="base and refiners to show")
    parser.add_argument("--classes", type=int, default=4, help="most classes of a picture shown")
    parser.add_argument("--share", type=float, default=0.1, help="of the pixels cut out")
    return parser


def support_parser() -> argparse.ArgumentParser:
    """Of `var-exp support`."""
    parser = argparse.ArgumentParser(
        prog="var-exp support",
        description="Which methods act on a network, and what checked them.",
    )
    parser.add_argument("network", nargs="+", metavar="model=NAME", help="and model.OPTION=VALUE")
    parser.add_argument("--methods", nargs="+", metavar="ALIAS", help="default: all")
    parser.add_argument(
        "--thorough", action="store_true", help="run also what makes a pass for every channel"
    )
    return parser


PARSERS = {
    "explain": explain_parser,
    "sweep": sweep_parser,
    "figures": figures_parser,
    "support": support_parser,
}


def accept_hydras_flags() -> None:
    """Let Hydra 1.3 run on Python 3.14, whose argparse refuses help that is no text."""
    if sys.version_info >= (3, 14):
        argparse.ArgumentParser._check_help = lambda parser, action: None  # type: ignore
