"""Turn a command line into the source of a run's requests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.places import AnyPath
from evalkit.core.tables import found_columns, parse_json_lines, read_text
from evalkit.datasets.base import Caption
from evalkit.generation import GenerationOptions
from evalkit.options import (
    HERE,
    RequestOptions,
    SamplingOptions,
    ServerOptions,
    SpreadOptions,
)
from evalkit.protocols.catalog import open_protocol
from evalkit.requests import DatasetSource, LabelSource, PromptSource, RequestSource, prompt_id

if TYPE_CHECKING:
    from evalkit.protocols.model import MeasurementProtocol
    from generators.adapters.access import Access

COCO_PROTOCOL = "imagen-30k"
"""What `--coco` means."""
PROMPT_COLUMNS = ("prompt", "text", "caption")
SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")


def generation_options(
    model: str,
    asked: RequestOptions,
    sampling: SamplingOptions,
    out: AnyPath | None,
    spread: SpreadOptions = HERE,
) -> GenerationOptions:
    """Build the options of the run that a command line describes.

    Raises:
        ConfigError: No source is given, or two at once.
        UnknownNameError: No protocol has the name.
        MissingDataError: No such file of prompts or protocol.
    """
    protocol = _protocol(asked)
    if protocol is not None and "seed" not in sampling.typed:
        sampling = replace(sampling, seed=protocol.captions.seed)
    return GenerationOptions(
        model=model, source=_source(asked, protocol), sampling=sampling, out=out, spread=spread
    )


def takes_access(model: str) -> bool:
    """Return whether a model is behind a server."""
    from generators.catalog import scheme_of

    scheme = scheme_of(model)
    return scheme is not None and scheme.takes_access


def with_cap(model: str, server: ServerOptions) -> Access:
    """Return the access to a server; ask on the terminal for a cap that is not given.

    Where there is no terminal to ask, the model's loader refuses to start without a cap.
    """
    access = server.access()
    capped = access.max_requests is not None or access.max_cost is not None
    if capped or not takes_access(model) or not sys.stdin.isatty():
        return access
    from generators.adapters.servers import needs_cap

    if not needs_cap(access):
        return access
    most = typer.prompt(f"Most requests to {model}, retries included", type=int)
    return replace(access, max_requests=most)


def _protocol(asked: RequestOptions) -> MeasurementProtocol | None:
    if asked.coco and asked.protocol:
        raise ConfigError(f"--coco means --protocol {COCO_PROTOCOL}; give only one of the two.")
    name = COCO_PROTOCOL if asked.coco else asked.protocol
    return open_protocol(name) if name else None


def _source(asked: RequestOptions, protocol: MeasurementProtocol | None) -> RequestSource:
    given = {
        "--coco": asked.coco,
        "--prompt": bool(asked.prompt),
        "--prompts": asked.prompts is not None,
        "--labels": bool(asked.labels) and not asked.data,  # beside --data they say which
        "--data": bool(asked.data),
        "--protocol": bool(asked.protocol) and not asked.data,  # beside --data it says how
    }
    flags = [flag for flag, is_given in given.items() if is_given]
    if len(flags) != 1:
        raise ConfigError(
            "Choose what to generate: give exactly one of --coco, --data NAME|PATH, --protocol "
            "NAME|FILE.toml or, with generate, --prompt TEXT, --prompts FILE, --labels 3,7. Got "
            + (" and ".join(flags) or "none of them")
            + "."
        )
    if asked.coco_root is not None and not (asked.coco or asked.data or protocol):
        raise ConfigError(f"--coco-root applies to --coco, not to {flags[0]}.")
    if asked.prompt:
        return PromptSource.of_texts(asked.prompt, asked.n)
    if asked.prompts is not None:
        return PromptSource(read_prompts(asked.prompts), asked.n)
    if asked.labels and not asked.data:
        return LabelSource(asked.labels, asked.n)
    name = asked.data or (protocol.dataset if protocol else "")
    return DatasetSource(
        name,
        asked.n,
        asked.coco_root,
        protocol,
        allow_short=asked.allow_short,
        labels=asked.labels,
    )


def read_prompts(path: Path) -> list[Caption]:
    """Read the prompts of a file, with ids and categories where it has them.

    Args:
        path: `.txt`, one prompt a line; `.csv` or `.tsv` with a column `prompt` (or `text`,
            `caption`), and optionally `id` and `category`; `.jsonl` with the same keys.

    Raises:
        MissingDataError: There is no such file.
        DataError: It can't be read, has no prompt, or two prompts have one id.
        ConfigError: Another kind of file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--prompts {path}: expected a file ending in {', '.join(SUFFIXES)}.")
    found = list(_json_lines(path) if suffix == ".jsonl" else _table(path))
    if not found:
        raise DataError(f"{path}: the file has no prompts. Give at least one.")
    first: dict[str, Caption] = {}
    for prompt in found:
        if first.setdefault(prompt.id, prompt) != prompt:
            raise DataError(f"{path}: two prompts have the id {prompt.id!r}. Ids must differ.")
    return found


def _table(path: Path) -> Iterator[Caption]:
    from drawbench.suites.files import read_rows

    rows, ids = read_rows(path)
    for number, (text, category) in enumerate(rows):
        own = ids[number] if ids else ""
        yield Caption(own or prompt_id(text), "", text, kind=category or None)


def _json_lines(path: Path) -> Iterator[Caption]:
    text = read_text(path)
    for where, row in parse_json_lines(text, source=str(path)):
        yield _prompt(row, where)


def _prompt(row: Any, where: str) -> Caption:
    if isinstance(row, str):
        row = {"prompt": row}
    keys = sorted(row) if isinstance(row, Mapping) else []
    name = next((key for key in PROMPT_COLUMNS if key in keys), None)
    if name is None:
        raise DataError(
            f"{where}: expected a text under {' or '.join(PROMPT_COLUMNS)}, found "
            f"{found_columns(keys) if keys else json.dumps(row)[:40]}."
        )
    if not isinstance(row[name], str):
        raise DataError(f"{where}: {name!r} must be a text, got {row[name]!r}.")
    return Caption(
        _word(row, "id", where) or prompt_id(row[name]),
        "",
        row[name],
        kind=_word(row, "category", where) or None,
    )


def _word(row: Mapping[str, Any], key: str, where: str) -> str:
    """Return a text or a whole number as a text; empty where there is none."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {key!r} must be a text or a whole number, got {value!r}.")
    return str(value).strip()
