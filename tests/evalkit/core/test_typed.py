"""Values of files have the types of their fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from evalkit.core.errors import DataError
from evalkit.core.results import ResultRecord, read_records, write_records
from evalkit.core.typed import check_types


@dataclass
class Row:
    number: int
    share: float | None
    kind: Literal["a", "b"]
    names: tuple[str, ...]
    more: Mapping[str, str]
    whatever: Any = None


GOOD = {"number": 1, "share": 2, "kind": "a", "names": ["x"], "more": {}, "whatever": object()}


def test_good_values_pass() -> None:
    check_types(Row, GOOD)
    check_types(Row, {**GOOD, "share": None, "unknown": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", None), ("number", True), ("number", 1.0), ("number", "1"), ("share", "0.5"),
        ("share", False), ("kind", "c"), ("kind", ["a"]), ("names", "x"), ("names", [1]),
        ("more", []), ("more", None), ("more", {"a": None}),
    ],
)  # fmt: skip
def test_others_are_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is .*, expected ") as caught:
        check_types(Row, {**GOOD, name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", None), ("n", "40"), ("value", "3.1"), ("metric", None), ("details", []),
     ("direction", "sideways"), ("interval", {"low": "a", "high": 2, "method": "m"}),
     ("interval", [1, 2])],
)  # fmt: skip
def test_a_record_with_another_type_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "results.json"
    write_records(path, [ResultRecord(metric="fid", value=1.0, n=4, direction="lower")])
    document = json.loads(path.read_text())
    document["records"][0][name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"results.json: Not a result record \(.+\)\.$") as caught:
        read_records(path)
    assert "\n" not in str(caught.value)
