"""Attribute, let the classes compete, measure: `python evaluate.py method=gbp model=vit_b16`."""

from var_exp.__main__ import evaluate

if __name__ == "__main__":
    evaluate()
