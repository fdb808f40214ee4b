"""Format numbers with as many digits as their uncertainty supports.

A value is rounded so that its standard error keeps two significant digits, the interval with it.
The files (`results.json`, `results.csv`) keep every digit.
"""

from __future__ import annotations

import math

from evalkit.core.results import Direction, ResultRecord

MINUS = "\N{MINUS SIGN}"
_UNCERTAINTY_DIGITS = 2
_PLAIN_DIGITS = 4
_MOST_DECIMALS = 6
_HALF_WIDTHS_IN_INTERVAL = 2 * 1.96
_DIRECTION_WORDS: dict[Direction, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "none": "no direction is better",
}
_ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "none": "·"}


def decimals(value: float, uncertainty: float | None) -> int:
    """Return the decimal places to print; more than six call for an exponent.

    Args:
        value: The number.
        uncertainty: Its standard error; with None or 0 the value gets four significant digits.

    >>> decimals(12.2431, 0.232), decimals(0.002134, 0.00011), decimals(41.5, None)
    (2, 5, 2)
    """
    scale, digits = (uncertainty, _UNCERTAINTY_DIGITS) if uncertainty else (value, _PLAIN_DIGITS)
    if not scale or not math.isfinite(scale):
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(scale))))


def number(value: float, places: int | None = None) -> str:
    """Format a number in plain characters, with thousands separators.

    >>> number(12.2431, 2), number(30000), number(-0.0004, 2), number(0.00000123)
    ('12.24', '30,000', '0.00', '1.23e-06')
    """
    if not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "not a number")
    if places is None:
        places = decimals(value, None)
        text = _fixed(value, places)
        return text if "e" in text or "." not in text else text.rstrip("0").rstrip(".")
    return _fixed(value, places)


def value_text(record: ResultRecord) -> str:
    """Format the value without its unit; empty if there is none."""
    return "" if record.value is None else number(record.value, _places(record))


def interval_text(record: ResultRecord) -> str:
    """Format the interval as `[11.80, 12.71]`, with the digits of the value; empty without one."""
    if record.interval is None:
        return ""
    places = _places(record)
    return f"[{number(record.interval.low, places)}, {number(record.interval.high, places)}]"


def standard_error_text(record: ResultRecord) -> str:
    """Format the standard error with two significant digits; empty if there is none."""
    error = record.standard_error
    return "" if error is None else number(error, decimals(error, error) if error else None)


def level_text(record: ResultRecord) -> str:
    """Format the level of the interval, such as `95 %`; empty without an interval."""
    if record.interval is None:
        return ""
    return f"{number(round(100 * record.interval.level, 6))} %"


def typographic(text: str) -> str:
    """Replace hyphens by true minus signs, for a page."""
    return text.replace("-", MINUS)


def direction_words(direction: Direction) -> str:
    """Say which direction is better, in words."""
    return _DIRECTION_WORDS[direction]


def direction_arrow(direction: Direction) -> str:
    """Say which direction is better, in one character."""
    return _ARROWS[direction]


def seconds_text(elapsed_s: float) -> str:
    """Format a duration for people.

    >>> seconds_text(0.42), seconds_text(83.2), seconds_text(7384)
    ('0.4 s', '1 min 23 s', '2 h 3 min')
    """
    if elapsed_s < 59.95:
        return f"{elapsed_s:.1f} s"
    minutes, seconds = divmod(round(elapsed_s), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _places(record: ResultRecord) -> int | None:
    """Return the decimal places of a record's numbers; None without any uncertainty."""
    uncertainty = record.standard_error
    if record.interval is not None:
        width = record.interval.high - record.interval.low
        uncertainty = width / _HALF_WIDTHS_IN_INTERVAL if math.isfinite(width) else uncertainty
    return decimals(record.value or 0.0, uncertainty) if uncertainty else None


def _fixed(value: float, places: int) -> str:
    if places > _MOST_DECIMALS:
        return f"{value:.2e}"
    text = f"{value:,.{places}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text
