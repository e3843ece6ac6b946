"""Train a model: `python train.py`, `python train.py model=resnet50 data=folder data.root=…`."""

from var_exp.__main__ import train

if __name__ == "__main__":
    train()
