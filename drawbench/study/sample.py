"""Make the sample study, which the rating page shows when no study is given."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

from drawbench.study.assignment import dice
from drawbench.study.design import load_preset, make_config
from drawbench.study.folder import Study
from drawbench.study.making import make_study
from drawbench.study.painters import PRACTICE, SCENES, draw_even, draw_odd
from drawbench.study.sources import ImageSource, open_source
from drawbench.study.texts import english
from drawbench.suites import Suite, make_suite

LABEL = "sample"
RATERS_PER_ITEM = 5
PAINTERS: dict[str, Callable[[str, Random], Image.Image]] = {
    "Painter Even": draw_even,
    "Painter Odd": draw_odd,
}


def sample_suite() -> Suite:
    """Return the captions of the sample study."""
    rows = [(caption, _category(caption)) for caption in SCENES if caption not in PRACTICE]
    return make_suite("sample", rows, source="embedded in evalkit")


def make_sample_study(path: Path, *, seed: int = 0) -> Study:
    """Draw pictures of ten captions by two simulated painters and make a study of them.

    It follows the paper's preset, but with fewer raters, so one person can complete it; every
    report on it is labelled "sample".
    """
    suite = sample_suite()
    config = make_config(
        {
            **load_preset("imagen-drawbench"),
            "title": english().study.sample_title,
            "models": list(PAINTERS),
            "raters_per_item": RATERS_PER_ITEM,
            "num_checks": 1,
            "seed": seed,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            _drawn(name, Path(folder), suite, config.images_per_side, seed) for name in PAINTERS
        ]
        return make_study(path, config, suite, sources, label=LABEL)


def _drawn(name: str, folder: Path, suite: Suite, count: int, seed: int) -> ImageSource:
    for prompt in suite.prompts:
        target = folder / name / prompt.id
        target.mkdir(parents=True)
        for index in range(count):
            picture = PAINTERS[name](prompt.text, dice(seed, name, prompt.text, index))
            picture.save(target / f"{index}.png")
    source = open_source(name, folder / name, suite.prompts, per_prompt=count)
    return dataclasses.replace(source, selection="drawn by evalkit", origin="embedded")


def _category(caption: str) -> str:
    words = caption.split()
    if words[0] in ("two", "three", "four"):
        return "Counting"
    return "Positional" if len(words) > 3 else "Colors"
