"""The options of requests to a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.options.offering import Offer, option
from evalkit.options.parsing import whole_numbers


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """A data set and the number of its captions, or prompts, or class labels."""

    coco: bool = option(False, "--coco", "The zero-shot COCO protocol: --protocol imagen-30k.")
    protocol: str = option(
        "", "--protocol", "Protocol whose captions are drawn: a name or a TOML file.", optional=True
    )
    data: str = option("", "--data", "Name or folder of a captioned data set.", optional=True)
    coco_root: Path | None = option(  # noqa: RUF009 (makes a field)
        None, "--coco-root", "COCO folder with val2014/ and annotations/."
    )
    prompt: tuple[str, ...] = option(
        (), "--prompt", "A prompt; repeatable.", typed=list[str], parse=tuple
    )
    prompts: Path | None = option(  # noqa: RUF009 (makes a field)
        None, "--prompts", "File of prompts: txt (one a line), csv, tsv or jsonl."
    )
    labels: tuple[int, ...] = option(
        (),
        "--labels",
        "Class labels, such as 3,7; beside --data, the classes to use.",
        typed=str,
        parse=partial(whole_numbers, flag="--labels"),
    )
    n: int | None = option(
        None,
        "--n",
        "Number of images to generate. [default: the protocol's number; 1 per prompt or label]",
        minimum=1,
    )

    allow_short: bool = option(
        False, "--allow-short", "Draw all captions where the named protocol draws more."
    )


def _build(fields: dict[str, Any], typed: frozenset[str]) -> RequestOptions:
    del typed
    return RequestOptions(**fields)


requesting = Offer(record=RequestOptions, parameter="asked", build=_build)
"""Replace a command's parameter `asked` by the options of requests."""
