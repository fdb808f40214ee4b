"""The methods paragraph of what was run, with its citations.

It says what the fingerprints say: models and sampling, reference, metrics and their networks, the
protocol, intervals and tests. The papers are those that the catalogs name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evalkit.catalog import DATASETS, METRICS, network_paper
from evalkit.core.errors import EvalkitError
from evalkit.core.papers import PAPERS, bibliography, papers_in
from evalkit.core.results import ResultRecord
from evalkit.reports import formatting, wording
from evalkit.reports.views import agreed_entries
from generators.catalog import ALIASES
from generators.catalog import CATALOG as MODELS

_UNSAID = re.compile(r", difference$| k\d+(?= |$)| \(.*\)")
_HOLM, _FREE_GUIDANCE = "Holm 1979", "Ho & Salimans 2022"


@dataclass(frozen=True)
class Citation:
    """Papers that are cited at one place, by their keys."""

    keys: tuple[str, ...]

    @property
    def text(self) -> str:
        """Their names, such as `Heusel et al. 2017; Nash et al. 2021`."""
        return "; ".join(PAPERS[key].short for key in self.keys)


@dataclass(frozen=True)
class Methods:
    """A paragraph: texts and the citations between them."""

    parts: tuple[str | Citation, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all cited papers, each once, as they come."""
        cited = (key for part in self.parts if isinstance(part, Citation) for key in part.keys)
        return tuple(dict.fromkeys(cited))

    @property
    def bibtex(self) -> str:
        """The BibTeX entries of the cited papers."""
        return bibliography(self.keys)

    def render(
        self,
        cite: Callable[[Citation], str] = lambda citation: f" ({citation.text})",
        text: Callable[[str], str] = str,
    ) -> str:
        """Return the paragraph; plain text with names and years by default.

        Args:
            cite: Formats a citation, with the space before it.
            text: Formats what is between citations, such as by escaping it.
        """
        return "".join(cite(p) if isinstance(p, Citation) else text(p) for p in self.parts)


def methods(records: Sequence[ResultRecord]) -> Methods:
    """Write the paragraph on some records; empty for none."""
    measured = [record for record in records if not wording.is_difference(record)]
    differences = [record for record in records if wording.is_difference(record)]
    shared = agreed_entries([record.fingerprint for record in records])
    sentences = [
        *_samples(measured),
        _sentence(wording.compared_phrase(shared), _data_paper(shared.get("reference"))),
        *_metrics(records),
        _sentence(wording.protocol_phrase(shared)),
        _sentence(_intervals("intervals", measured)),
        *_tests(differences),
        _sentence(_versions(shared)),
    ]
    parts: list[str | Citation] = []
    for sentence in filter(None, sentences):
        parts += [" ", *sentence] if parts else sentence
    return Methods(tuple(parts))


def _sentence(text: str, *papers: str) -> list[str | Citation]:
    """Return a capitalised sentence that ends with its citations; nothing for no text."""
    if not text:
        return []
    keys = tuple(dict.fromkeys(key for paper in papers for key in papers_in(paper)))
    opening = text[:1].upper() + text[1:]
    return [opening, Citation(keys), "."] if keys else [f"{opening}."]


def _samples(records: Sequence[ResultRecord]) -> list[list[str | Citation]]:
    """Say of each model how its images were made; models that were sampled alike share it."""
    fingerprints: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        fingerprints.setdefault(record.subject, []).append(record.fingerprint)
    alike: dict[str, list[str]] = {}
    papers: dict[str, list[str]] = {}
    for subject, own in fingerprints.items():
        agreed = agreed_entries(own)
        phrase = wording.sampled_phrase(agreed)
        alike.setdefault(phrase, []).append(subject)
        papers.setdefault(phrase, []).extend(_sampling_papers(agreed))
    return [
        _sentence(
            f"for {_listed(subjects)}: {phrase}" if len(alike) > 1 and phrase else phrase,
            *papers[phrase],
        )
        for phrase, subjects in alike.items()
    ]


def _sampling_papers(fingerprint: Mapping[str, Any]) -> list[str]:
    """Return the papers of the model, its samplers, its guidance and its captions' data set."""
    name = str(fingerprint.get("model") or "")
    found = []
    with suppress(EvalkitError):
        found.append(MODELS[ALIASES.get(name, name)].paper)
    samplers = set(_values(fingerprint.get("sampler")))
    if samplers:
        from generators.diffusion.samplers import SAMPLERS  # imports torch

        found += [row.paper for key, row in SAMPLERS.items() if key in samplers]
    guided = any(scale not in (0, 1) for scale in _values(fingerprint.get("guidance")))
    if guided and fingerprint.get("conditioning") not in ("class", "none"):
        found.append(_FREE_GUIDANCE)
    return [*found, _data_paper(fingerprint.get("dataset"))]


def _values(setting: Any) -> list[Any]:
    """Return the values of a setting, which may be one for each stage."""
    values = list(setting.values()) if isinstance(setting, Mapping) else [setting]
    return [value for value in values if isinstance(value, str | int | float)]


def _data_paper(named: Any) -> str:
    """Return the papers of the data sets that a text names, such as `all images of coco`."""
    words = str(named or "").replace(",", " ").split()
    return ", ".join(row.paper for name, row in DATASETS.own.items() if name in words)


def _metrics(records: Sequence[ResultRecord]) -> list[list[str | Citation]]:
    """List the metrics with their papers, then the networks of their features with theirs."""
    labels: dict[str, list[str]] = {}
    networks: dict[str, str] = {}
    for record in records:
        if wording.is_difference(record):
            continue
        labels.setdefault(_metric_paper(record), []).append(wording.label(record))
        features = wording.features_phrase(record.fingerprint)
        if features:
            networks[features] = network_paper(wording.extractor_name(record.fingerprint))
    if not labels:
        return []
    parts: list[str | Citation] = ["We report "]
    for place, (paper, named) in enumerate(labels.items()):
        keys = tuple(papers_in(paper))
        parts += ["; " * bool(place) + _listed(named)]
        parts += [Citation(keys)] if keys else [f" ({paper})"] if paper else []
    return [[*parts, "."], *(_sentence(text, paper) for text, paper in networks.items())]


def _metric_paper(record: ResultRecord) -> str:
    """Return the paper that a metric's row names; nothing for what evalkit itself defines."""
    source = wording.source(record)
    own = any(row.paper == source for row in METRICS.own.values())
    return source if papers_in(source) or not own else ""


def _intervals(what: str, records: Sequence[ResultRecord]) -> str:
    """Say how the intervals were computed, each method once."""
    with_interval = [record for record in records if record.interval is not None]
    holders: dict[str, list[str]] = {}
    for record in with_interval:
        assert record.interval is not None
        holders.setdefault(record.interval.method, []).append(_short_label(record))
    levels = _listed(formatting.level_text(record) for record in with_interval)
    said = "; ".join(f"{_listed(labels)}, {method}" for method, labels in holders.items())
    return f"{what} ({levels}): {said}" if said else ""


def _short_label(record: ResultRecord) -> str:
    """Return a label without the network, the number of neighbours, and the word for differences.

    >>> _short_label(ResultRecord(metric="recall-k3", value=0.5, n=9, direction="higher"))
    'Recall'
    """
    return _UNSAID.sub("", wording.label(record))


def _tests(differences: Sequence[ResultRecord]) -> list[list[str | Citation]]:
    if not differences:
        return []
    num_tests = max((record.details.get("num_tests", 0) for record in differences), default=0)
    found = [
        _sentence("models are compared by paired differences, the first minus the second"),
        _sentence(_intervals("intervals of differences", differences)),
    ]
    if num_tests > 1:
        found.append(_sentence(f"p-values are corrected over {num_tests} tests", _HOLM))
    return found


def _versions(fingerprint: Mapping[str, Any]) -> str:
    versions = fingerprint.get("versions")
    if not isinstance(versions, Mapping) or "evalkit" not in versions:
        return ""
    others = [f"{name} {number}" for name, number in versions.items() if name != "evalkit"]
    return f"computed with evalkit {versions['evalkit']}" + (
        f" ({', '.join(others)})" if others else ""
    )


def _listed(names: Iterable[str]) -> str:
    """Join names, each once: `a, b and c`."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) < 2:
        return "".join(distinct)
    return f"{', '.join(distinct[:-1])} and {distinct[-1]}"
