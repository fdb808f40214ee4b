"""Result records: no number without its context, no failure in disguise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import DataError
from evalkit.core.results import Interval, ResultRecord, read_records, write_records

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def record(**changes: object) -> ResultRecord:
    fields: dict[str, object] = {
        "metric": "fid",
        "value": 12.24,
        "n": 30_000,
        "direction": "lower",
        "interval": Interval(low=11.9, high=12.6, method="influence"),
        "fingerprint": {"seed": 0, "extractor": {"name": "inception"}},
    }
    return ResultRecord(**{**fields, **changes})  # type: ignore[arg-type]


@given(value=FINITE, low=FINITE, reason=st.text(), n=st.integers(0, 10**9))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: float, low: float, reason: str, n: int
) -> None:
    path = tmp_path_factory.mktemp("records") / "results.json"
    interval = Interval(low=low, high=low, method=reason)
    written = [record(value=value, n=n, reason=reason, interval=interval), record(interval=None)]
    write_records(path, written)
    assert read_records(path) == written


@pytest.mark.parametrize(
    "changes",
    [
        {"value": math.nan},
        {"value": math.inf},
        {"value": None},
        {"state": "failed", "value": 0.0, "reason": "no weights"},
        {"state": "failed", "value": None, "reason": ""},
    ],
)
def test_a_record_can_not_lie(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        record(**changes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"low": math.nan}, "from nan to 2.0: both ends must be finite"),
        ({"high": math.nan}, "from 1.0 to nan: both ends must be finite"),
        ({"low": -math.inf}, "from -inf to 2.0: both ends must be finite"),
        ({"high": math.inf}, "from 1.0 to inf: both ends must be finite"),
        ({"low": 2.5}, "from 2.5 to 2.0: the ends are swapped"),
        ({"level": 95.0}, "Level 95.0 is not between 0 and 1; write 95 % as 0.95"),
        ({"level": 0.0}, "Level 0.0 is not between 0 and 1"),
        ({"level": 1.0}, "Level 1.0 is not between 0 and 1"),
    ],
)
def test_an_interval_can_not_lie(tmp_path: Path, changes: dict[str, float], complaint: str) -> None:
    fields = {"low": 1.0, "high": 2.0, "level": 0.9, "method": "t", **changes}
    with pytest.raises(ValueError, match=complaint):
        Interval(**fields)  # type: ignore[arg-type]
    path = tmp_path / "results.json"
    records = [{**record().as_dict(), "interval": fields}]
    path.write_text(json.dumps({"schema_version": 1, "records": records}))
    with pytest.raises(DataError, match=f"results.json: Not a result record .*{complaint}"):
        read_records(path)


@pytest.mark.parametrize("low", [1, 1.0, 2.0])
def test_ends_may_be_whole_numbers_and_may_be_equal(low: float) -> None:
    assert Interval(low=low, high=2, method="t").low == low


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema_version"),
        ('{"schema_version": 2, "records": []}', "schema_version"),
        ('{"schema_version": 1}', "records"),
        ('{"schema_version": 1, "records": [{"metric": "fid"}]}', "Not a result record"),
        (
            '{"schema_version": 1, "records": [{"metric": "fid", "value": 1.0, "n": 1, '
            '"direction": "lower", "surprise": 1}]}',
            "surprise",
        ),
    ],
)
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataError, match=complaint):
        read_records(path)


def test_a_failed_write_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_records(path, [record()])
    before = path.read_text()
    with pytest.raises(TypeError):
        write_records(path, [record(details={"bad": object()})])
    assert path.read_text() == before
    assert json.loads(before)["schema_version"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
