"""Functions that return the rows of each suite, from its public homes or from this package.

The rows of `drawbench.suites.catalog` name these functions.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from importlib.resources import files

from drawbench.suites.files import Row, parse_rows
from evalkit.core.downloads import require_network

FETCH_TIMEOUT_S = 20
DRAWBENCH_DATASET = "sayakpaul/drawbench"
DRAWBENCH_HUB = "https://huggingface.co"
DRAWBENCH_SHEET = (
    "https://docs.google.com/spreadsheets/d/1y7nAbmR4FREi6npB1u-Bo3GFdwdOPYJc617rBOxIRHY/"
    "gviz/tq?tqx=out:csv&sheet=Sheet1"
)
PARTI_FILE = "https://raw.githubusercontent.com/google-research/parti/main/PartiPrompts.tsv"


def drawbench_from_hub() -> list[Row]:
    """Fetch the rows of the data set on the hub; fail at once without a network."""
    if not os.environ.get("HF_HUB_OFFLINE"):
        require_network(DRAWBENCH_HUB)  # the library would keep trying for half a minute
    from datasets import load_dataset

    table = load_dataset(DRAWBENCH_DATASET, split="train")
    return [(str(row["Prompts"]), str(row["Category"])) for row in table]


def drawbench_from_sheet() -> list[Row]:
    """Fetch the rows of the official sheet."""
    return parse_rows(_get(DRAWBENCH_SHEET), suffix=".csv", source="the official sheet")[0]


def parti_from_github() -> list[Row]:
    """Fetch the rows of the authors' file."""
    return parse_rows(_get(PARTI_FILE), suffix=".tsv", source="google-research/parti")[0]


def shapes_bench() -> list[Row]:
    """Read the rows of our own suite, which is part of this package."""
    text = (files("drawbench.suites") / "prompts" / "shapes_bench.csv").read_text("utf-8")
    return parse_rows(text, suffix=".csv", source="shapes-bench")[0]


def _get(url: str) -> str:
    require_network(url)
    try:
        # The addresses are literals of this module, so the scheme is known.
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
            content: bytes = answer.read()
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    return content.decode("utf-8-sig")
