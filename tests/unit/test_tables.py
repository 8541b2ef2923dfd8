"""Tables that people wrote: numbers are exact or missing, whatever stands beside them."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spider_utils.data.tables import read_as_text, whole_numbers
from spider_utils.errors import DataError


def test_whole_numbers_by_hand():
    text = ["3", " 3 ", "3.0", "3.", "007", "9007199254740993", "999999999999999999"]
    assert whole_numbers(pd.Series(text)).tolist() == [3, 3, 3, 3, 7, 9007199254740993, 10**18 - 1]
    for odd in ("inf", "-inf", "nan", "1e30", "1e3", "-3", "+3", "2.5", "3.01", "", "x", "1_000", "٣", "1" + 18 * "0", None):
        found = whole_numbers(pd.Series(["9007199254740993", odd], index=[7, 3], dtype=object))
        assert found.loc[7] == 9007199254740993 and pd.isna(found.loc[3]), odd
        assert found.dtype == "Int64" and found.index.tolist() == [7, 3]
    assert whole_numbers(pd.Series([], dtype=str)).dtype == "Int64"


@given(st.lists(st.integers(0, 10**18 - 1)))
def test_whole_numbers_come_back(numbers):
    assert whole_numbers(pd.Series([str(one) for one in numbers], dtype="object")).tolist() == numbers


def test_a_table_is_text_with_line_numbers(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfid, name\r\n9007199254740993, a\r\n,b\r\n")
    table = read_as_text(path, ("id",), "look", "look")
    assert table["id"].tolist()[0] == "9007199254740993" and table["id"].isna().tolist() == [False, True]
    assert table["row"].tolist() == [2, 3] and table["name"].tolist() == ["a", "b"]
    for spoil, words in (
        (lambda: path.write_bytes(b"id\n\xe4\n"), "UTF-8"),
        (lambda: path.write_bytes(b""), "CSV"),
        (lambda: path.write_bytes(b"other\n1\n"), r"lacks the column\(s\) id. Use that"),
        (path.unlink, "missing. Look there"),
    ):
        spoil()
        with pytest.raises(DataError, match=words) as caught:
            read_as_text(path, ("id",), "Look there.", "Use that.")
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
