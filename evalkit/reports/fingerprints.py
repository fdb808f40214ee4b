"""Compare fingerprints: what records share, and whether they are comparable.

A fingerprint has two kinds of entries. Some describe the subject (its weights, sampler, guidance):
there, models are expected to differ. All others describe the measurement: if these differ, the
numbers are not comparable, and get letters that say so. An unclassified entry counts as one of the
measurement.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.results import ResultRecord
from evalkit.reports.wording import is_difference, label

SUBJECT_KEYS = frozenset(
    {
        "model", "generator", "display_name", "preset", "conditioning", "weights", "weights_sha256",
        "training_data", "training_relation", "reranked", "candidates", "stages", "sampler",
        "steps", "guidance", "options", "thresholding", "settings", "device", "batch_size",
        "workers", "run", "config_hash", "out", "command", "created", "samples_sha256",
        "skipped_samples", "copies", "matched_ids", "sampling_precision",
        "sample_captions_sha256", "second_samples_sha256",
    }
)  # fmt: skip
"""Prefixes of the keys that describe the subject and not the measurement."""

MINOR_KEYS = frozenset(
    {
        "seed", "seed_rule", "versions", "precision", "platform", "jackknife_groups", "group_seed",
        "subset_size", "subset_seed",
    }
)  # fmt: skip
"""Keys that change a number little, or only by chance; they are marked as well."""

_NEVER_SHARED = frozenset({"model", "display_name", "command", "run", "samples_sha256"})
NOT_RECORDED = "not recorded"
_HASH_DIGITS = 12
_SHORT = 60

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Comparability:
    """Which records of a column were measured in the same way."""

    marks: Mapping[int, str]
    """Letters by index of the record; a record without one is unmarked."""
    notes: tuple[str, ...]
    """One sentence per column with marks: what differs."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One value of a fingerprint, and its holders."""

    key: str
    value: str
    holders: tuple[str, ...]
    """Names of its holders; empty if all have it."""


def flatten(fingerprint: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Flatten nested entries to dotted keys; lists and empty objects become JSON text.

    A dot or backslash inside a key is escaped by a backslash, so that no two entries get the same
    name.

    >>> flatten({"crop": "center", "guidance": {"base": 1.5}, "layers": [64, 192]})
    {'crop': 'center', 'guidance.base': 1.5, 'layers': '[64, 192]'}
    """
    flat: dict[str, Scalar] = {}
    for key, value in fingerprint.items():
        name = prefix + str(key).replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        elif value is None or isinstance(value, str | int | float | bool):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, ensure_ascii=False, default=list)
    return flat


def value_text(value: Scalar) -> str:
    """Format a value of a fingerprint."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def column(record: ResultRecord) -> tuple[str, str]:
    """Return the key of a record's column: its metric and its label."""
    return record.metric, label(record)


def comparability(records: Sequence[ResultRecord]) -> Comparability:
    """Mark the records of each column that were not measured in the same way.

    Records without a value are ignored. If a subject has several records in a column, the settings
    in which these differ count as well, since nothing else tells them apart.
    """
    marks: dict[int, str] = {}
    holders: dict[str, list[str]] = {}
    for (_, name), places in _columns(records).items():
        keys = _counting_keys([records[place] for place in places])
        if not keys:
            continue
        groups: dict[tuple[str, ...], list[int]] = {}
        for place in places:
            flat = _flat(records[place])
            groups.setdefault(tuple(_shown(flat, key) for key in keys), []).append(place)
        for rank, members in enumerate(groups.values()):
            marks.update(dict.fromkeys(members, _letter(rank)))
        holders.setdefault(_note(keys, list(groups)), []).append(name)
    notes = tuple(f"{', '.join(names)}: {note}" for note, names in holders.items())
    return Comparability(marks=marks, notes=notes)


def entries(flats: Mapping[str, Mapping[str, Scalar]]) -> list[Entry]:
    """Merge several named flat fingerprints: each entry once, with the names of its holders."""
    holders: dict[str, dict[str, list[str]]] = {}
    for name, flat in flats.items():
        for key, value in flat.items():
            holders.setdefault(key, {}).setdefault(value_text(value), []).append(name)
    return [
        Entry(key=key, value=value, holders=() if len(names) == len(flats) else tuple(names))
        for key, values in holders.items()
        for value, names in values.items()
    ]


def subject_differences(fingerprints: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the subject's entries that differ between fingerprints, with the values in order.

    Names, hashes and command lines of the runs are ignored: they always differ.
    """
    flats = [flatten(fingerprint) for fingerprint in fingerprints]
    return {
        key: [_shown(flat, key) for flat in flats]
        for key in _differing(flats)
        if _is_in(key, SUBJECT_KEYS - _NEVER_SHARED)
    }


def _columns(records: Sequence[ResultRecord]) -> dict[tuple[str, str], list[int]]:
    columns: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(records):
        if record.state == "ok":
            columns.setdefault(column(record), []).append(place)
    return columns


def _flat(record: ResultRecord) -> dict[str, Scalar]:
    # Each paired difference is of two models of its own, with as many images as these have.
    count: dict[str, Scalar] = {} if is_difference(record) else {"n": record.n}
    return count | flatten(record.fingerprint)


def _differing(flats: Sequence[Mapping[str, Scalar]]) -> list[str]:
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if len({_shown(flat, key) for flat in flats}) > 1]


def _counting_keys(records: Sequence[ResultRecord]) -> list[str]:
    """Return the keys that tell the records of one column apart."""
    by_subject: dict[str, list[Mapping[str, Scalar]]] = {}
    for record in records:
        by_subject.setdefault(record.subject, []).append(_flat(record))
    within = {key for flats in by_subject.values() for key in _differing(flats)}
    differing = _differing([_flat(record) for record in records])
    return [key for key in differing if key in within or not _is_in(key, SUBJECT_KEYS)]


def is_of_measurement(key: str) -> bool:
    """Return whether an entry describes the measurement and not the subject, or chance."""
    return not _is_in(key, SUBJECT_KEYS | MINOR_KEYS)


def _is_in(key: str, keys: Iterable[str]) -> bool:
    return key.split(".")[0] in keys


def _shown(flat: Mapping[str, Scalar], key: str) -> str:
    return value_text(flat[key]) if key in flat else NOT_RECORDED


def _letter(rank: int) -> str:
    return string.ascii_lowercase[rank] if rank < 26 else f"a{rank}"


def _note(keys: Sequence[str], groups: Sequence[Sequence[str]]) -> str:
    """Format a note, such as `a and b are not comparable: crop is center (a), squash (b)`."""
    letters = [_letter(rank) for rank in range(len(groups))]
    minor = all(_is_in(key, MINOR_KEYS | SUBJECT_KEYS) for key in keys)
    verdict = "were measured differently" if minor else "are not comparable"
    parts = []
    for place, key in enumerate(keys):
        values = [
            f"{_shortened(key, group[place])} ({letter})"
            for letter, group in zip(letters, groups, strict=True)
        ]
        parts.append(f"{key} is {', '.join(values)}")
    return f"{' and '.join(letters)} {verdict}: {'; '.join(parts)}"


def _shortened(key: str, value: str) -> str:
    if key.endswith("sha256") and value != NOT_RECORDED:
        return f"{value[:_HASH_DIGITS]}…"
    return value if len(value) <= _SHORT else f"{value[:_SHORT]}…"
