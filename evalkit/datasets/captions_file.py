"""Write drawn captions with their ids, so that anyone can compare draws."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from evalkit.core.errors import ConfigError
from evalkit.core.results import write_atomically
from evalkit.datasets.base import Caption

SUFFIXES = (".tsv", ".csv", ".jsonl", ".txt")


def draw_hash(captions: Sequence[Caption]) -> str:
    """Compute the SHA-256 of caption ids and image ids, in the order of the draw."""
    lines = "".join(f"{caption.id}\t{caption.image_id}\n" for caption in captions)
    return hashlib.sha256(lines.encode()).hexdigest()


def write_captions(path: Path, captions: Sequence[Caption]) -> None:
    """Write captions in the order of the draw, with id, image id and text.

    Args:
        path: `.tsv`, `.csv` or `.jsonl`; or `.txt`, with the texts only, a line each.
        captions: The captions.

    Raises:
        ConfigError: Another kind of file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--captions-out {path}: the name must end in {', '.join(SUFFIXES)}.")
    if suffix == ".txt":
        text = "".join(f"{' '.join(caption.text.split())}\n" for caption in captions)
    elif suffix == ".jsonl":
        rows = [{"id": c.id, "image_id": c.image_id, "prompt": c.text} for c in captions]
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    else:
        buffer = io.StringIO()
        writer = csv.writer(
            buffer, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n"
        )
        writer.writerow(("id", "image_id", "prompt"))
        writer.writerows((c.id, c.image_id, c.text) for c in captions)
        text = buffer.getvalue()
    write_atomically(path, text.encode())
