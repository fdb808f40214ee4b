"""Labels and explanations of numbers.

All text about a metric comes from the record itself and from the catalog of metrics; a metric that
neither knows is shown under its own name. `PROTOCOL_KEYS` lists the fingerprint's keys that are
read here; all others still appear in the full table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from evalkit.catalog import (
    DIFFERENCE_SUFFIX,
    INCEPTION_SHA256_PREFIX,
    METRICS,
    OTHER_WEIGHTS,
    Described,
    MetricRow,
    describe,
)
from evalkit.core.errors import EvalkitError
from evalkit.core.results import ResultRecord
from evalkit.reports.formatting import number

INFINITY_SUFFIX = "-infinity"

PROTOCOL_KEYS = (
    "model", "conditioning", "training_relation", "reranked", "sampler", "steps", "guidance",
    "seed", "dataset", "split", "captions", "reference", "num_reference", "crop", "filter",
    "size_px", "protocol", "protocol_overrides", "protocol_choices", "protocol_images",
    "simulated", "created", "command",
    "extractor",  # only its name, or name, resize, precision, weights_sha256, weights_note
)  # fmt: skip
"""Keys of a fingerprint that the report puts into words."""

_CROPS = {"center": "centre-cropped", "squash": "squashed to a square", "none": "not cropped"}

_PROTOCOL_NOTES = ("protocol_choices", "protocol_images")

_CLIP_KEY = "clip.model"
"""A protocol's value, as `protocol_overrides` names it."""

Tone = Literal["plain", "good", "warn"]

_RELATION_TONES: dict[str, Tone] = {"zero-shot": "good", "trained on this data set": "warn"}


@dataclass(frozen=True, kw_only=True)
class Badge:
    """A short warning or note beside a number."""

    text: str
    tone: Tone = "plain"
    meaning: str = ""
    """The sentence that explains it."""


def canonical(metric: str) -> str:
    """Return the name under which the catalog knows a metric.

    >>> canonical("CLIP_score"), canonical("fd (shapes-clip)"), canonical("fid-infinity")
    ('clip-score', 'fd', 'fid')
    """
    name = _hyphenated(metric).split("(")[0].strip().rstrip("-")
    return name.removesuffix(DIFFERENCE_SUFFIX).removesuffix(INFINITY_SUFFIX)


def is_difference(record: ResultRecord) -> bool:
    """Return whether the record is a paired difference of two subjects."""
    return _hyphenated(record.metric).endswith(DIFFERENCE_SUFFIX)


def label(record: ResultRecord) -> str:
    """Return the label of a record; a Fréchet distance carries the name of its features.

    A metric that is a title already, such as `FD (shapes-clip)`, stays unchanged.
    """
    name = _hyphenated(record.metric)
    stem = name.removesuffix(DIFFERENCE_SUFFIX)
    found = _described(record)
    if found is not None:
        text = _filled(found, record.fingerprint)
    elif record.metric != record.metric.lower():
        text = record.metric[: len(stem)]
    else:
        text = stem[:1].upper() + stem[1:].replace("-", " ")
    return f"{text}, difference" if stem != name else text


def metric_label(name: str) -> str:
    """Return the label of a record's name, where nothing more is known of the record."""
    return label(ResultRecord(metric=name, value=0.0, n=0, direction="none"))


def reference_count(record: ResultRecord) -> int | None:
    """Return the number of reference images behind a record; None where there are none."""
    count = record.fingerprint.get("num_reference") or record.details.get("n_reference")
    return count if isinstance(count, int) else None


def summary(record: ResultRecord) -> str:
    """Return one clause on what the metric is; empty if the catalog does not know it."""
    found = _described(record)
    row = found.row if found is not None else _row(record)
    if row is None:
        return ""
    clause = _clause(row, extractor_name(record.fingerprint))
    text = clause if found is None else found.line.summary.format(metric=clause)
    return text[:1].upper() + text[1:]


def source(record: ResultRecord) -> str:
    """Return the paper that defines the metric; empty if none is known."""
    found = _described(record)
    row = found.row if found is not None else _row(record)
    return "" if row is None else row.paper


def _described(record: ResultRecord) -> Described | None:
    """Look a record up in the catalog, under its name or the canonical spelling."""
    return describe(record.metric) or describe(_hyphenated(record.metric))


def _row(record: ResultRecord) -> MetricRow | None:
    """Return the metric of a record that its row does not declare, such as a failed metric."""
    name = canonical(record.metric)
    with suppress(EvalkitError):
        return METRICS[name]
    return None


def _filled(found: Described, fingerprint: Mapping[str, Any]) -> str:
    """Fill a row's label with the names of the networks."""
    features = extractor_name(fingerprint)
    other = f" ({features})" if features not in ("", "inception") else ""
    return found.line.label.format(
        **found.fields,
        features=features or "features not named",
        other_features=other,
        other_clip=_other_clip(fingerprint),
    )


def _other_clip(fingerprint: Mapping[str, Any]) -> str:
    """Name the CLIP in parentheses; empty if a protocol chose it, or if none is recorded."""
    name = str(fingerprint.get("clip_model") or "").removeprefix("clip:")
    chosen = _CLIP_KEY not in (fingerprint.get("protocol_overrides") or ())
    return f" ({name})" if name and not (fingerprint.get("protocol") and chosen) else ""


def _clause(row: MetricRow, features: str) -> str:
    """Return a metric's summary, with the name of the features."""
    if features and row.summary_with_features:
        return row.summary_with_features.format(features=features)
    unnamed = features and features.lower() not in row.summary.lower()
    return f"{row.summary}, by {features}" if unnamed else row.summary


def extractor_name(fingerprint: Mapping[str, Any]) -> str:
    """Return the name of the features' network; empty if there is none."""
    extractor = _extractor(fingerprint)
    return str(extractor.get("name") or extractor.get("extractor") or "")


def badges(record: ResultRecord) -> list[Badge]:
    """Return the badges that keep a number from being mistaken for another one."""
    found = []
    if canonical(record.metric) == "fd":
        found.append(
            Badge(
                text="not an FID",
                meaning="Only the Inception-2015 network makes an FID; this distance uses other "
                "features and is comparable only with distances on the same features.",
            )
        )
    note = _weights_note(record)
    if note:
        found.append(Badge(text=note, tone="warn", meaning="Published values use other weights."))
    if record.details.get("mark"):
        found.append(Badge(text=str(record.details["mark"]), tone="warn", meaning=record.reason))
    return found + _copy_badges(record.fingerprint) + subject_badges(record.fingerprint)


_COPIES = {
    "samples_in_reference": (
        ("sample is a reference image", "samples are reference images"),
        "These samples are the same files as images of the reference, so the model did not make "
        "them, or repeats what it is compared with. A copy and its original are one draw.",
    ),
    "repeated_samples": (
        ("sample is a copy of another", "samples are copies of another"),
        "These samples are the same file as another sample. Copies are one draw.",
    ),
    "repeated_reference": (
        ("reference image is a copy of another", "reference images are copies of another"),
        "These images are in the reference more than once. Copies are one draw.",
    ),
}
"""The badge of each count of a fingerprint's `copies`, for one and for more, and its meaning."""


def _copy_badges(fingerprint: Mapping[str, Any]) -> list[Badge]:
    """Return a badge for each kind of copies among the images."""
    counts = fingerprint.get("copies")
    if not isinstance(counts, Mapping):
        return []
    return [
        Badge(text=f"{_plain(count)} {texts[count != 1]}", tone="warn", meaning=meaning)
        for name, (texts, meaning) in _COPIES.items()
        if (count := counts.get(name))
    ]


def marks_text(record: ResultRecord) -> str:
    """Return the texts of all badges of a record, for a cell of a table."""
    return "; ".join(badge.text for badge in badges(record))


def subject_badges(fingerprint: Mapping[str, Any]) -> list[Badge]:
    """Return the badges about the model (zero-shot or not, re-ranked) and about the protocol."""
    found = []
    relation = fingerprint.get("training_relation")
    if relation is not None:
        found.append(relation_badge(str(relation)))
    reranked = fingerprint.get("reranked")
    if reranked:
        found.append(
            Badge(
                text="re-ranked",
                tone="warn",
                meaning=f"The best of several candidates was kept{_how(reranked)}.",
            )
        )
    if fingerprint.get("simulated"):
        found.append(
            Badge(
                text="simulated raters",
                tone="warn",
                meaning="The votes are simulated; no people took part.",
            )
        )
    return [*found, *protocol_badges(fingerprint)]


def protocol_badges(fingerprint: Mapping[str, Any]) -> list[Badge]:
    """Return the badges about a named protocol: its values of our choice, and missing images."""
    name, found = fingerprint.get("protocol"), []
    if name and fingerprint.get("protocol_choices"):
        found.append(
            Badge(
                text=f"{name} ({fingerprint['protocol_choices']})",
                meaning="No publication states these values of the protocol; `evalkit protocols "
                f"show {name}` lists them.",
            )
        )
    if name and fingerprint.get("protocol_images"):
        found.append(
            Badge(
                text=f"{fingerprint['protocol_images']} images of {name}",
                tone="warn",
                meaning="Fewer images than the protocol says: the number is biased upward.",
            )
        )
    return found


def common_badges(records: Sequence[ResultRecord]) -> tuple[Badge, ...]:
    """Return the subject badges that all records share."""
    if not records:
        return ()
    first, *others = [subject_badges(record.fingerprint) for record in records]
    return tuple(badge for badge in first if all(badge in other for other in others))


def own_badges(
    records: Sequence[ResultRecord], subject: str, common: Sequence[Badge]
) -> tuple[Badge, ...]:
    """Return the badges of one subject that not all subjects share."""
    found = (
        badge
        for record in records
        if record.subject == subject
        for badge in subject_badges(record.fingerprint)
        if badge not in common
    )
    return tuple(dict.fromkeys(found))


def relation_badge(relation: str) -> Badge:
    """Return the badge that says whether the model was trained on the data it is measured on."""
    meanings = {
        "zero-shot": "The model was not trained on the data set that it is measured on.",
        "trained on this data set": "The model was trained on the training split of the data set "
        "that it is measured on; its numbers are not comparable with zero-shot ones.",
    }
    known = relation if relation in meanings else "unknown whether zero-shot"
    return Badge(
        text=known,
        tone=_RELATION_TONES.get(relation, "plain"),
        meaning=meanings.get(relation, "The model's training data is unknown."),
    )


def protocol_sentence(fingerprint: Mapping[str, Any]) -> str:
    """Describe in sentences how the numbers were made, as far as the fingerprint says."""
    sentences = [
        sampled_phrase(fingerprint),
        compared_phrase(fingerprint),
        features_phrase(fingerprint),
        protocol_phrase(fingerprint),
    ]
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in sentences if text)


def protocol_phrase(fingerprint: Mapping[str, Any]) -> str:
    """Describe the protocol, such as `protocol imagen-30k, except for crop and size_px`."""
    if not fingerprint.get("protocol"):
        return ""
    changed = [str(name) for name in fingerprint.get("protocol_overrides") or ()]
    listed = ", ".join(changed[:-1]) + (" and " if len(changed) > 1 else "") + "".join(changed[-1:])
    said = [fingerprint[key] for key in _PROTOCOL_NOTES if fingerprint.get(key)]
    name = f"protocol {fingerprint['protocol']}" + (f" ({'; '.join(said)})" if said else "")
    return name + (f", except for {listed}" if listed else "")


def _hyphenated(metric: str) -> str:
    return metric.lower().replace("_", "-")


def sampled_phrase(fingerprint: Mapping[str, Any]) -> str:
    """Say how the images were sampled; empty if neither model nor captions are known."""
    model, captions = fingerprint.get("model"), _captions(fingerprint)
    if not model and not captions:
        return ""
    opening = f"images by {model}" if model else "images"
    said = [
        _setting(key, fingerprint[key])
        for key in ("sampler", "steps", "guidance")
        if fingerprint.get(key) is not None
    ]
    said += [f"CLIP guidance {_plain(scale)}" for scale in _clip_guidance(fingerprint)]
    if fingerprint.get("seed") is not None:
        said.append(_setting("seed", fingerprint["seed"]))
    return opening + (f" for {captions}" if captions else "") + "".join(f", {s}" for s in said)


def _clip_guidance(fingerprint: Mapping[str, Any]) -> list[Any]:
    """Return the scales of the stages that a noised CLIP guides, by default or by choice."""
    options = fingerprint.get("options")
    stages = options.values() if isinstance(options, Mapping) else ()
    scales = [stage.get("clip_guidance") for stage in stages if isinstance(stage, Mapping)]
    return [scale for scale in scales if scale]


def _setting(key: str, value: Any) -> str:
    """Format a setting, such as `25 steps`, `guidance 1.5`, `steps (base 25, sr1 10)`."""
    if isinstance(value, Mapping):
        return f"{key} ({_plain(value)})"
    return f"{_plain(value)} steps" if key == "steps" else f"{key} {_plain(value)}"


def _captions(fingerprint: Mapping[str, Any]) -> str:
    captions, dataset = fingerprint.get("captions"), fingerprint.get("dataset")
    split = fingerprint.get("split")
    if isinstance(captions, str):
        return captions
    place = f"{dataset or ''} ({split})".strip() if split else str(dataset or "")
    if captions is None:
        return f"captions of {place}" if place else ""
    asked = {
        "class": "class labels, in the same proportions as in",
        "none": "requests without a caption, to be compared with images from",
    }
    words = asked.get(str(fingerprint.get("conditioning")), "captions of")
    return f"{_plain(captions)} {words} {place}" if place else f"{_plain(captions)} captions"


def compared_phrase(fingerprint: Mapping[str, Any]) -> str:
    """Describe the reference and its preparation; empty if there is none."""
    reference = fingerprint.get("reference")
    if not reference:
        return ""
    count = fingerprint.get("num_reference")
    text = f"compared with {_plain(reference)}" + (f" ({_plain(count)} images)" if count else "")
    size, resampling = fingerprint.get("size_px"), fingerprint.get("filter")
    if fingerprint.get("crop"):
        text += f", {_CROPS.get(str(fingerprint['crop'])) or _plain(fingerprint['crop'])}"
    if size:
        text += f", at {_plain(size)} px"
    return text + (f" ({resampling} filter)" if resampling else "")


def features_phrase(fingerprint: Mapping[str, Any]) -> str:
    """Describe the features' network and its preprocessing; empty if there is none."""
    name = extractor_name(fingerprint)
    if not name:
        return ""
    extractor = _extractor(fingerprint)
    parts = [f"features of {name}"]
    if extractor.get("resize") not in (None, "none"):
        parts.append(f"{extractor['resize']} resizing")
    if extractor.get("precision"):
        parts.append(f"in {extractor['precision']}")
    return ", ".join(parts)


def _extractor(fingerprint: Mapping[str, Any]) -> Mapping[str, Any]:
    extractor = fingerprint.get("extractor") or {}
    return extractor if isinstance(extractor, Mapping) else {"name": extractor}


def _weights_note(record: ResultRecord) -> str:
    extractor = _extractor(record.fingerprint)
    if extractor.get("weights_note"):
        return str(extractor["weights_note"])
    sha256 = str(extractor.get("weights_sha256") or INCEPTION_SHA256_PREFIX)
    is_fid = canonical(record.metric) in ("fid", "sfid")
    return OTHER_WEIGHTS if is_fid and not sha256.startswith(INCEPTION_SHA256_PREFIX) else ""


def _how(reranked: Any) -> str:
    if reranked is True:
        return ""
    if isinstance(reranked, Mapping) and {"by", "candidates"} <= reranked.keys():
        return (
            f": {_plain(reranked['candidates'])} per prompt, selected by {_plain(reranked['by'])}"
        )
    return f" ({_plain(reranked)})"


def _plain(value: Any) -> str:
    """Format a value of a fingerprint for a sentence."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(part) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return str(value)
