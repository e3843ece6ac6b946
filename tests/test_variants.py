"""What a row of a table is, and which names a refiner may not have."""

import pytest

from var_exp.modules.variants import _MAKERS
from var_exp.types import ConfigError
from var_exp.variants import (
    CONTROLS,
    Variant,
    check_refiner_names,
    difference,
    read_variant,
    variants_of,
)


def test_the_variants_of_a_run_in_the_order_of_its_tables():
    found = variants_of(["var", "cgi"], controls=True)
    assert [(v.name, v.role, v.of) for v in found[:7]] == [
        ("base", "base", ""),
        ("var", "refined", ""),
        ("cgi", "refined", ""),
        ("var_same_sparsity", "control", "var"),
        ("var_random_classes", "control", "var"),
        ("cgi_same_sparsity", "control", "cgi"),
        ("cgi_random_classes", "control", "cgi"),
    ]
    assert {(v.role, v.of) for v in found[7:]} == {("control", "")}
    assert variants_of(["var"], controls=False) == [found[0], found[1]]


def test_every_registered_control_can_be_made_and_no_other():
    assert set(_MAKERS) == {control.name for control in CONTROLS}
    assert len({control.name for control in CONTROLS}) == len(CONTROLS)
    assert all(control.meaning.endswith(".") for control in CONTROLS)


def test_a_difference_knows_both_sides_whatever_their_names():
    found = difference(Variant("var", "refined"), Variant("var_same_sparsity", "control", "var"))
    assert (found.name, found.of, found.subtracted) == (
        "var-var_same_sparsity",
        "var",
        "var_same_sparsity",
    )
    assert Variant("base", "base").subtracted == ""


def test_three_columns_are_one_object_and_a_strange_role_is_refused():
    assert read_variant("var", "refined", "") is read_variant("var", "refined", "")
    control = Variant("x_same_sparsity", "control", "x")
    assert read_variant(control.name, "control", "x") == control
    with pytest.raises(ValueError, match="'rival' is no role of a variant; there are base"):
        read_variant("var", "rival", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base", "cannot be called 'base', which names the base maps; rename"),
        ("edge_map", "cannot be called 'edge_map', which names the maps of a control"),
        ("x_same_sparsity", "names the maps of a control"),
        ("x-base", "letters, digits and _ only"),
        ("", "letters, digits and _ only"),
    ],
)
def test_reserved_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        check_refiner_names(["var", name])
    check_refiner_names(["var", "var_scaled", "map_edge", "sparsity"])
