"""Numbers carry as many digits as their uncertainty supports."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.results import Interval
from evalkit.reports import formatting
from tests.evalkit.reports.examples import QUICK, make_record


@pytest.mark.parametrize(
    ("value", "half_width", "shown"),
    [
        (12.2431, 0.4552, "12.24 [11.79, 12.70]"),  # s.e. 0.23: two of its digits are hundredths
        (0.0021338, 0.00022, "0.00213 [0.00191, 0.00235]"),
        (31.2, 4.0, "31.2 [27.2, 35.2]"),
        (12345.6, 900.0, "12,346 [11,446, 13,246]"),
        (-0.00004, 0.2, "0.00 [-0.20, 0.20]"),
    ],
)
def test_value_and_interval_share_the_digits_of_the_standard_error(
    value: float, half_width: float, shown: str
) -> None:
    record = make_record(value=value, half_width=half_width)
    assert f"{formatting.value_text(record)} {formatting.interval_text(record)}" == shown


def test_standard_error_alone_decides_the_digits() -> None:
    record = make_record(value=12.24312, standard_error=0.0213, reason="no interval: plug-in")
    assert formatting.value_text(record) == "12.243"
    assert formatting.standard_error_text(record) == "0.021"
    assert formatting.interval_text(record) == ""


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (41.0, "41"), (0.81254, "0.8125")])
def test_without_uncertainty_four_digits_and_no_padding(value: float, shown: str) -> None:
    assert (
        formatting.value_text(make_record(value=value, reason="no interval: asked not to")) == shown
    )


def test_an_interval_of_no_width_says_nothing_about_digits() -> None:
    interval = Interval(low=1.0, high=1.0, method="all agree")
    record = make_record(value=1.0, interval=interval)
    assert formatting.value_text(record) == "1"
    assert formatting.interval_text(record) == "[1, 1]"


@QUICK
@given(
    value=st.floats(-1e6, 1e6, allow_nan=False),
    half_width=st.floats(1e-4, 10.0),
)
def test_rounding_moves_a_value_by_less_than_a_tenth_of_its_standard_error(
    value: float, half_width: float
) -> None:
    record = make_record(value=value, half_width=half_width)
    shown = float(formatting.value_text(record).replace(",", ""))
    assert abs(shown - value) <= half_width / 1.96 / 10 + 1e-9


@QUICK
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_plain_or_has_an_exponent(value: float) -> None:
    assert re.fullmatch(r"-?[\d,]+(\.\d+)?(e[+-]\d+)?", formatting.number(value))
