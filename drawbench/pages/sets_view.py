"""The part of the rating page that shows the sets of images, as a component of our own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from drawbench.rating.session import ItemScreen

ASSETS = Path(__file__).with_name("assets")


def sets_data(screen: ItemScreen, side_name: str) -> dict[str, Any]:
    """What the browser is told about the pictures: titles, blind names, columns. Nothing more."""
    place = screen.place
    sides = {"": place.first}
    if place.second:
        sides = {f"{side_name} A": place.first, f"{side_name} B": place.second}
    return {
        "page": place.position,
        "sets": [
            {"title": title, "names": list(names), "columns": columns(len(names))}
            for title, names in sides.items()
        ],
        "preload": list(screen.preload),
    }


def columns(num_images: int) -> int:
    """Columns of the grid of a set: 4 x 2 for eight images, 4 x 4 for sixteen.

    >>> [columns(n) for n in (1, 2, 4, 6, 8, 16)]
    [1, 2, 2, 3, 4, 4]
    """
    for width, limit in ((1, 1), (2, 4), (3, 6), (4, 16)):
        if num_images <= limit:
            return width
    return 8


def show_sets(
    screen: ItemScreen, side_name: str, on_report: Callable[[], None], *, key: str
) -> None:
    """Draw the sets of a screen; `on_report` is called when an image is reported."""
    _component()(data=sets_data(screen, side_name), key=key, on_report_change=on_report)


def _component() -> Callable[..., Any]:
    html, css, js = _sources()
    return st.components.v2.component("sets", html=html, css=css, js=js)


@cache
def _sources() -> tuple[str, str, str]:
    html, css, js = ((ASSETS / f"sets.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return html, css, js
