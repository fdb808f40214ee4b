"""The part of the rating page that shows the sets of images, as a custom component."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from drawbench.rating.session import ItemScreen, ReportOutcome
from drawbench.store.store import MAX_REASON
from drawbench.study.texts import ImageTexts, Texts, fill

ASSETS = Path(__file__).with_name("assets")


def sets_data(
    screen: ItemScreen, side_name: str, texts: Texts, report: ReportOutcome | None = None
) -> dict[str, Any]:
    """Return what the browser learns of the images: titles, labels, blind names, columns.

    Nothing else goes out, so that nobody can find out which model is which.

    Args:
        screen: The page.
        side_name: Name of a side, such as "Set".
        texts: What raters read.
        report: What became of the last report of an image.
    """
    place, wording = screen.place, texts.images
    sides = [("", place.first)]
    if place.second:
        sides = [
            (fill(texts.rating.first_set, side=side_name), place.first),
            (fill(texts.rating.second_set, side=side_name), place.second),
        ]
    return {
        "cell": place.cell_id,
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
        "report": None if report is None else {"id": report.id, "stored": report.stored},
        "max_reason": MAX_REASON,
        "texts": _words(texts),
    }


def _words(texts: Texts) -> dict[str, str]:
    names = ImageTexts.model_fields.keys() - {"image", "image_of_set"}
    return {
        **{name: getattr(texts.images, name) for name in sorted(names)},
        "report_title": texts.report.title,
        "report_reason": texts.report.reason,
        "report_send": texts.report.send,
        "report_cancel": texts.report.cancel,
        "report_failed": texts.report.failed,
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


def show_sets(data: dict[str, Any], *, key: str) -> None:
    """Draw the sets of a screen, inside a form.

    What the browser says is in the session state under the key: `seen`, once the images of a page
    are there, and `report`, the last report of an image.
    """
    html, css, js = _sources()
    component = st.components.v2.component("sets", html=html, css=css, js=js)
    component(data=data, key=key)


@cache
def _sources() -> tuple[str, str, str]:
    html, css, page, js = (
        (ASSETS / name).read_text("utf-8")
        for name in ("sets.html", "sets.css", "page.js", "sets.js")
    )
    return html, css, f"{page}\n{js}"
