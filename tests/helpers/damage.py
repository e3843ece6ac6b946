"""Damage by chance: bytes of a file, nodes of nested data; the same from the same seed."""

import json
import math
import os
import random
import warnings

from var_exp.types import VarExpError

COUNT = int(os.environ.get("VAR_EXP_FUZZ", "15"))
SEED = int(os.environ.get("VAR_EXP_FUZZ_SEED", "0"))
ODD = [
    None,
    True,
    -1,
    0,
    10**12,
    1e308,
    math.nan,
    math.inf,
    "",
    "x",
    "\n\x07",
    [],
    {},
    [[]],
    [None],
]
DEEP = "[" * 100_000


def damaged(content, chance):
    """Some bytes of a file flipped, cut off, doubled, or taken from elsewhere in it."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(content))
        match chance.randrange(5):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                content[place] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                del content[max(place, 8) :]
            case 3:
                content[place:place] = content[place : place + chance.randrange(64)]
            case 4:
                other = chance.randrange(len(content))
                content[place : place + 8] = content[other : other + 8]
    return bytes(content)


def altered(tree, chance):
    """A copy of nested data with a few of its nodes replaced, removed or doubled."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        nodes = [(tree, key) for key in _keys(tree)]
        for holder, key in nodes:
            nodes += [(holder[key], inner) for inner in _keys(holder[key])]
        if not nodes:
            return chance.choice(ODD)
        holder, key = chance.choice(nodes)
        match chance.randrange(4):
            case 0 | 1:
                holder[key] = chance.choice(ODD)
            case 2:
                del holder[key]
            case 3:
                holder[key] = [holder[key], holder[key]]
    return tree


def _keys(tree):
    return (
        list(tree) if isinstance(tree, dict) else range(len(tree) if isinstance(tree, list) else 0)
    )


def tried(outcomes, work, allowed=VarExpError):
    """Do something; anything but a result or a refusal in one sentence is a defect."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except allowed:
        outcomes["refused"] += 1
    else:
        outcomes["read"] += 1


def each(kind):
    """Streams of chance, one for each input of a kind."""
    return (random.Random(f"{kind}/{SEED}/{number}") for number in range(COUNT))
