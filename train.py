"""Train a model: `python train.py`, `python train.py model=resnet50 data=folder data.root=…`."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder: a file here with the name of a package would run in its place

from var_exp.__main__ import train

if __name__ == "__main__":
    train()
