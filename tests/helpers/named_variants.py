"""Variants by the names that a run would give them, so that tests can be read."""

from var_exp.variants import CONTROLS, Variant


def variant(name):
    """What a run with the refiner "var" (or another plain name) calls so."""
    left, dash, _ = name.partition("-")
    if dash:
        return Variant(name, "difference", left)
    if name == "base":
        return Variant(name, "base")
    for control in CONTROLS:
        if control.of_refiner and name.endswith(f"_{control.name}"):
            return Variant(name, "control", name.removesuffix(f"_{control.name}"))
        if name == control.name:
            return Variant(name, "control")
    return Variant(name, "refined")
