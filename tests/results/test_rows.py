import csv
import math

import pytest
from named_variants import variant

from var_exp.results.rows import Row, read_rows, write_rows
from var_exp.types import BadData

HEAD = "sample_id,class,metric,variant,score,flags,role,of"
AWKWARD = [
    Row("plain", 3, "grid_pointing_game", variant("var"), 0.1 + 0.2),
    Row('comma, "quote"', 0, "m", variant("var_same_sparsity"), 1 / 3, "empty_map|tied"),
    Row("line\nbreak\rand more", 999, "m", variant("base"), 5e-324),
    Row("Bär 熊", 1, "m", variant("base"), -1.7976931348623157e308, "tied"),
]


def test_rows_come_back_exactly(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(path, iter(AWKWARD))
    assert read_rows(path) == AWKWARD


def test_undefined_scores_are_written_as_nan(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(
        path,
        [Row("a", 0, "m", variant("base"), math.nan), Row("b", 0, "m", variant("base"), math.inf)],
    )
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert [line["score"] for line in lines] == ["nan", "inf"]
    undefined, infinite = read_rows(path)
    assert math.isnan(undefined.score)
    assert infinite.score == math.inf


def test_columns_are_those_of_the_contract(tmp_path):
    path = tmp_path / "scores.csv"
    write_rows(path, [])
    assert path.read_text().strip() == HEAD
    assert read_rows(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns sample_id, class, .* got none"),
        ("id,score\na,1\n", "got id, score"),
        (f"{HEAD}\na,0,m,base,high,,base,\n", "line 2 of .*'high'"),
        (f"{HEAD}\na,0,m,base,0.5,,bass,\n", "line 2 of .*'bass' is no role"),
        (f"{HEAD}\na,0,m,base\n", "line 2 of "),
    ],
)
def test_another_file_is_refused_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(BadData, match=message):
        read_rows(path)
