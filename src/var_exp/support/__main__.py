"""Print which methods act on a network, and what checked them.

    var-exp support model=resnet50 model.pretrained=false
    var-exp support model=tf_efficientnet_lite0 model.checkpoint=FILE
    var-exp support model._target_=mine.build --methods gbp gradcam

Likewise `python -m var_exp.support`. Words are those of `evaluate.py`: an alias of `conf/model` or
any timm name, and options of the network. Without weights of its own a network gets random ones in
general position. Ends with 1 when a method failed, and with 2 when the command must be mended.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import nn

from var_exp.conf_files import aliases, conf_dir
from var_exp.parsers import support_parser
from var_exp.registry import build
from var_exp.support.findings import Finding, support
from var_exp.support.networks import image_sides, in_general_position
from var_exp.types import ConfigError, VarExpError

_SAYS = {"acts": "acts", "refused": "refused", "unchecked": "acts, unchecked", "failed": "FAILED"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer for the network that the command line names."""
    parser = support_parser()
    options = parser.parse_args(arguments)
    sys.path.append(str(Path.cwd()))  # a class of the user's own, as `evaluate.py` finds it
    try:
        model = network(options.network)
        with Console(stderr=True).status("") as status:
            found = support(
                model, methods=options.methods, thorough=options.thorough, progress=status.update
            )
    except VarExpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console().print(table(found, " ".join(options.network)))
    return int(any(finding.status == "failed" for finding in found))


def network(words: Sequence[str]) -> nn.Module:
    """The network that words such as "model=resnet50", "model.pretrained=false" name.

    Raises:
        VarExpError: a word of another form, or the network cannot be had.
    """
    node: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key == "model" and equals:
            node = {**_node(value), **node}
        elif key.startswith("model.") and equals:
            node[key.removeprefix("model.")] = yaml.safe_load(value)
        else:
            raise ConfigError(
                f"there is no '{word}' here; name a network with model=NAME and its options with "
                "model.OPTION=VALUE."
            )
    if "_target_" not in node:
        raise ConfigError("no network is named; add model=NAME.")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model: nn.Module = build(node, where="model")
        if node.get("pretrained") is False and not node.get("checkpoint"):
            side = image_sides(model)[-1]
            in_general_position(model.eval(), torch.randn(4, 3, side, side))
    return model


def _node(name: str) -> dict[str, Any]:
    """What an alias or a name of timm's stands for."""
    if name in aliases("model"):
        text = (conf_dir() / "model" / f"{name}.yaml").read_text(encoding="utf-8")
        node: dict[str, Any] = yaml.safe_load(text)
        return {key: value for key, value in node.items() if key != "defaults"}
    return {"_target_": "var_exp.models.timm_model", "name": name}


def table(findings: Sequence[Finding], title: str) -> Table:
    """The findings, a row for each method."""
    drawn = Table(title=title)
    drawn.add_column("method", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    drawn.add_column("checked by, or why not")
    drawn.add_column("layer")
    for heading in ("cells off", "error", "forward", "backward"):
        drawn.add_column(heading, justify="right")
    for each in findings:
        ran = each.forward > 0
        drawn.add_row(
            each.method,
            _SAYS[each.status],
            each.reason or each.checked_by,
            each.layer,
            "" if each.locality is None else str(each.locality),
            f"{each.error:.0e}" if each.error == each.error else "",
            *(str(count) if ran else "" for count in (each.forward, each.backward)),
        )
    drawn.caption = (
        "layer: where class activation maps are read, and its grid; cells off: between a changed "
        "patch and the cell of it that changes most. error: relative. forward, "
        "backward: images that went through the network for one explained image and its classes."
    )
    return drawn


if __name__ == "__main__":
    sys.exit(main())
