"""Tables and texts are read as their author meant them, or refused with the line that is wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError, DataError, MissingDataError
from evalkit.core.tables import (
    MAX_CELL,
    parse_json,
    parse_json_lines,
    parse_objects,
    parse_table,
    read_text,
    read_toml,
    split_lines,
    text_lines,
)


def table(text: str, *, tabs: bool = False) -> list[tuple[str, ...]]:
    found = parse_table(text, source="t.csv", tabs=tabs)
    return [found.header, *(row.cells for row in found.rows)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,2\n3,"open\n5,6\n', "line 3: a quote is opened and never closed"),
        ('a,b\n1,"open\n3,4\n5,"x"\n', "line 2: not a CSV file .*Close each quote"),
        ("a,b\n1,2,3\n", r"line 2 has 3 cells, but the header has 2 \(a, b\)\. Quote"),
        ("a,b\n1\n", "line 2 has 1 cells, but the header has 2"),
        ("a,a\n1,2\n", "column 'a' appears twice"),
        (f"a,b\n1,{'x' * (MAX_CELL + 1)}\n", "line 2: a cell of 100,001 characters; the limit"),
        (f'a,b\n1,"{"x " * MAX_CELL}"\n', "line 2: a cell of more than 100,000 characters"),
        # The quote of row 2 closes in row 4, so rows 3 and 4 would be part of one cell.
        ('a,b\n1,"open\n3,4\n5,6"\n', "line 2: a cell holds whole rows"),
        ('a,b,c,d\n1,2,3,"open\n5,6,7,8"\n', "line 2: a cell holds whole rows"),
    ],
)
def test_what_would_join_or_split_rows_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^t.csv: {message}"):
        table(text)


def test_what_is_quoted_well_is_kept() -> None:
    assert table('a,b\n1,"x, ""y""\nz"\n\n,\n"2",\n') == [
        ("a", "b"),
        ("1", 'x, "y"\nz'),
        ("2", ""),
    ]


def test_a_tab_separated_table_keeps_its_quotes() -> None:
    assert table('a\tb\n"1"\tsay "x", y\n', tabs=True) == [("a", "b"), ('"1"', 'say "x", y')]
    with pytest.raises(DataError, match="Quote cells that contain a tab"):
        table("a\tb\n1\t2\t3\n", tabs=True)


@given(
    st.lists(
        st.lists(st.text(max_size=8), min_size=4, max_size=4).filter(
            lambda row: any(cell.strip() for cell in row)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_table_that_csv_writes_comes_back(rows: list[list[str]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["a", "b", "c", "d"], *rows])
    found = parse_table(buffer.getvalue(), source="t.csv")
    assert [list(row.cells) for row in found.rows] == rows


def test_a_missing_column_is_named_with_those_found() -> None:
    found = parse_table("file,caption\n1,2\n", source="t.csv")
    with pytest.raises(DataError, match=r"t.csv: column 'text' is missing\. .*found file, caption"):
        found.require(["file", "text"])
    assert found.find("Caption", "caption") == 1


UNICODE = "a\u2028b\x0cc\x0bd\x85e\u2029f"
"""Every character at which `str.splitlines` splits besides line feeds and carriage returns."""


def test_lines_end_at_line_feeds_and_carriage_returns_only() -> None:
    assert split_lines(f"{UNICODE}\r\n\nx\ry") == [UNICODE, "", "x", "y"]
    assert text_lines(f"\n{UNICODE}\n \n") == [UNICODE]
    lines = json.dumps({"p": UNICODE}, ensure_ascii=False) + "\r\n" + json.dumps("x") + "\n\n"
    found = list(parse_json_lines(lines, source="f"))
    assert found == [("f:1", {"p": UNICODE}), ("f:2", "x")]
    assert table(f"a,b\n{UNICODE},1\n")[1] == (UNICODE, "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f: not valid JSON"),
        ("[" * 100_000, "f: not valid JSON"),
        ('["\\ud83d"]', "f: a text holds half of a surrogate pair"),
        ('{"\\uDE00": 1}', "f: a text holds half of a surrogate pair"),
    ],
)
def test_bad_json(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_json(text, source="f")


def test_whole_surrogate_pairs_are_characters() -> None:
    assert parse_json('"\\ud83d\\ude00"', source="f") == "\U0001f600"


def test_a_line_that_is_no_object_is_named() -> None:
    with pytest.raises(DataError, match="f:2: expected an object, got "):
        list(parse_objects('{"a": 1}\n[1]\n', source="f"))


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes("\ufeffa,b\n".encode())
    assert read_text(path) == "a,b\n"
    path.write_bytes("a,é\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"f.csv: not UTF-8 at byte 0\. Save it as UTF-8"):
        read_text(path)
    with pytest.raises(MissingDataError, match=r"none\.csv: no such file"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(DataError, match="can't be read"):
        read_text(tmp_path)


@pytest.mark.parametrize("content", [b"a = ", b"\xff", b"a = 1\na = 2", b"a = [" * 9_000])
def test_bad_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"f\.toml: not a TOML file of settings"):
        read_toml(tmp_path / "f.toml", what="settings")
