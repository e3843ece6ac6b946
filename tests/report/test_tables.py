"""Markdown and LaTeX of one table: the same numbers, and LaTeX that can be set."""

import re

import pytest

from var_exp.report.tables import Cell, Table, escaped, latex, markdown, write_tables

TABLE = Table(
    "a_metric (50 % & more)",
    [Cell("method"), Cell("base"), Cell("var", code=True)],
    [
        [
            Cell("g_{b}p", code=True),
            Cell("0.300"),
            Cell("0.900", "better", "+0.600 [+0.550, +0.650] ="),
        ],
        [
            Cell("a|b", code=True),
            Cell("-0.5"),
            Cell("0.4", "worse", "-0.100 [-0.120, -0.080] ∅1,234"),
        ],
    ],
    note="∅: empty maps.",
)


def numbers(text):
    """Every number, without the thousands' separators and LaTeX's spacing."""
    plain = re.sub(r"\{,\}|(?<=\d),(?=\d{3}\b)", "", text).replace(r"\,", " ").replace(r"\;", " ")
    return re.findall(r"[+-]?\d+\.?\d*", plain)


def test_both_print_the_same_numbers():
    body = latex(TABLE, "tab:x").split(r"\midrule")[1].split(r"\bottomrule")[0]
    found = numbers(body)
    assert found == numbers("\n".join(markdown(TABLE).splitlines()[2:]))
    assert found[:5] == ["0.300", "0.900", "+0.600", "+0.550", "+0.650"]
    assert found[-1] == "1234"


def test_markdown_keeps_its_columns():
    head, rule, *rows = markdown(TABLE).splitlines()
    assert head == "| method | base | `var` |"
    assert rule == "| --- | --- | --- |"
    assert rows[0] == "| `g_{b}p` | 0.300 | **0.900** +0.600 [+0.550, +0.650] = |"
    assert rows[1] == "| `a\\|b` | -0.5 | ~~0.4~~ -0.100 [-0.120, -0.080] ∅1,234 |"


def test_latex_has_balanced_braces_and_as_many_cells_as_columns():
    text = latex(TABLE, "tab:x")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"\begin{tabular}{lrr}" in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines] == [2, 2, 2]
    assert bare.count("$") % 2 == 0
    assert r"\textbf{0.900} {\scriptsize $+0.600\;[+0.550,\,+0.650]\;=$}" in text
    assert r"\texttt{g\_\{b\}p}" in text
    assert r"\caption{A\_metric (50 \% \& more). $\varnothing$: empty maps.}" in text
    text.encode("ascii")  # no letter that needs more than plain LaTeX


@pytest.mark.parametrize("letter", list("&%$#_{}~^\\"))
def test_letters_that_mean_something_to_latex_are_escaped(letter):
    text = escaped(f"a{letter}b")
    assert text.startswith("a\\")
    assert text.endswith("b")
    assert len(text) > 3


def test_files_hold_every_table(tmp_path):
    md, tex = write_tables(tmp_path / "some.thing", [TABLE, TABLE])
    assert (md.name, tex.name) == ("some.thing.md", "some.thing.tex")
    assert md.read_text().count("## a_metric") == 2
    assert tex.read_text().count(r"\begin{table}") == 2
    assert r"\label{tab:some.thing-2}" in tex.read_text()
