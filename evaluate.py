"""Attribute, let the classes compete, measure: `python evaluate.py method=gbp model=vit_b16`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: a file here with the name of a package would run in its place

from var_exp.__main__ import evaluate

if __name__ == "__main__":
    evaluate()
