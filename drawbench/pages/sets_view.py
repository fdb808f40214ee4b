"""The part of the rating page that shows the sets of images, as a custom component."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from drawbench.rating.session import ItemScreen
from drawbench.study.texts import Texts, fill

ASSETS = Path(__file__).with_name("assets")


def sets_data(screen: ItemScreen, side_name: str, texts: Texts) -> dict[str, Any]:
    """Return what the browser learns of the images: titles, labels, blind names, columns.

    Nothing else goes out, so that nobody can find out which model is which.
    """
    place, wording = screen.place, texts.images
    sides = [("", place.first)]
    if place.second:
        sides = [
            (fill(texts.rating.first_set, side=side_name), place.first),
            (fill(texts.rating.second_set, side=side_name), place.second),
        ]
    return {
        "page": place.position,
        "sets": [
            {
                "title": title,
                "names": list(names),
                "labels": [
                    fill(wording.image_of_set if title else wording.image, set=title, number=number)
                    for number in range(1, len(names) + 1)
                ],
                "columns": columns(len(names)),
            }
            for title, names in sides
        ],
        "preload": list(screen.preload),
        "texts": wording.model_dump(exclude={"image", "image_of_set"}),
    }


def columns(num_images: int) -> int:
    """Return the columns of a set's grid: 4 x 2 for eight images, 4 x 4 for sixteen.

    >>> [columns(n) for n in (1, 2, 4, 6, 8, 16)]
    [1, 2, 2, 3, 4, 4]
    """
    for width, limit in ((1, 1), (2, 4), (3, 6), (4, 16)):
        if num_images <= limit:
            return width
    return 8


def show_sets(
    screen: ItemScreen,
    side_name: str,
    texts: Texts,
    on_report: Callable[[], None],
    *,
    key: str,
) -> None:
    """Draw the sets of a screen; `on_report` is called when an image is reported."""
    data = sets_data(screen, side_name, texts)
    _component()(data=data, key=key, on_report_change=on_report)


def _component() -> Callable[..., Any]:
    html, css, js = _sources()
    return st.components.v2.component("sets", html=html, css=css, js=js)


@cache
def _sources() -> tuple[str, str, str]:
    html, css, js = ((ASSETS / f"sets.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    return html, css, js
