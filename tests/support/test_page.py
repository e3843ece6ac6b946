"""The page and the CSV of the docs, and the command that writes them."""

import pytest
import support_page
from support_page import Row, page, read, table, write

from var_exp.support.findings import Finding

RESNETS = ("timm/resnet18", "timm/resnet50", "torchvision/resnet18")


def rows(*statuses: str, reason: str = "no luck") -> list[Row]:
    reasons = ["" if status == "acts" else reason for status in statuses]
    return [
        Row("gbp", name, status, why)
        for name, status, why in zip(RESNETS, statuses, reasons, strict=False)
    ]


@pytest.mark.parametrize(
    ("statuses", "mark"),
    [
        (["acts", "acts", "acts"], "✓"),
        (["refused", "refused", "refused"], "✗ <sup>1</sup>"),
        (["acts", "refused", "acts"], "2 of 3 <sup>1</sup>"),
        (["acts", "failed", "acts"], "**failed** 2 of 3 <sup>1</sup>"),
        (["failed", "failed", "failed"], "**failed** ✗ <sup>1</sup>"),
    ],
)
def test_a_family_is_marked_by_all_its_builds(statuses, mark):
    text = table(rows(*statuses))
    assert f"| `gbp` | {mark} |" in text
    assert ("1. no luck." in text) == ("<sup>" in mark)


def test_a_reason_is_listed_once():
    other = Row("ig", RESNETS[0], "refused", "no luck")
    text = table([*rows("refused"), other, Row("rise", RESNETS[0], "refused", "another")])
    assert text.count("no luck") == 1
    assert text.count("<sup>1</sup>") == 2
    assert "2. another." in text


def test_a_row_has_the_largest_error_and_the_range_of_the_passes():
    some = [
        Row("gbp", name, "acts", "", "relu 9", forward, 4, error)
        for name, forward, error in zip(RESNETS, (3, 1, 2), (1e-8, 3e-7, 2e-8), strict=True)
    ]
    text = page(some)
    assert "| 1 to 3 | 4 | Autograd with hooks" in text
    assert "| 3e-07 |" in text
    assert "| ResNet | timm/resnet50 | published, 64 px | relu 9 |" in text


def test_rows_come_back_from_the_csv(tmp_path):
    kept = Row("gbp", RESNETS[0], "acts", 'a "reason", with commas', "relu 9", 1, 4, 3e-08)
    write([kept], tmp_path / "support.csv")
    assert read(tmp_path / "support.csv") == [kept]
    assert read(tmp_path / "nothing.csv") == []


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(
        "sys.argv", ["support_page", "--architectures", "timm/resnet18", *arguments]
    )
    return support_page.main()


def test_the_command_prints_the_table(monkeypatch, capsys):
    assert run(monkeypatch, "--methods", "gbp", "attnlrp") == 0
    printed = capsys.readouterr().out
    assert "| `gbp` | ✓ |" in printed
    assert "| `attnlrp` | ✗ <sup>1</sup> |" in printed


def test_the_command_adds_to_what_is_written(monkeypatch, tmp_path):
    run(monkeypatch, "--folder", str(tmp_path), "--methods", "gbp")
    run(monkeypatch, "--folder", str(tmp_path), "--methods", "gradient")
    written = read(tmp_path / "support.csv")
    assert [row.method for row in written] == ["gbp", "gradient"]
    assert {row.size for row in written} == {"small"}
    assert "| `gbp` | ✓ |" in (tmp_path / "support.md").read_text()


def test_a_failure_ends_the_command_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(
        support_page, "examine", lambda alias, on: Finding(alias, on.name, "failed", "no luck")
    )
    assert run(monkeypatch, "--methods", "gbp") == 1
    assert "gbp on timm/resnet18 failed: no luck" in capsys.readouterr().err
