"""Values that others published on a data set, with the protocol of each: to read beside one's own.

They are of other runs, often by other protocols, so a report keeps them in a table of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from evalkit.catalog import metric_of
from evalkit.protocols.catalog import PROTOCOLS, open_protocol
from evalkit.protocols.model import PublishedValue


@dataclass(frozen=True)
class Published:
    """A published value and the protocol under which it was published."""

    protocol: str
    stated: PublishedValue


def published_values(
    dataset: str | None, metrics: Collection[str], *, protocol: str = ""
) -> list[Published]:
    """Return what was published on a data set for some metrics.

    Args:
        dataset: Name of `evalkit list datasets`; None: there is none.
        metrics: Names of metrics; a published record of one of these is listed.
        protocol: The protocol whose values come first.
    """
    names = [name for name in PROTOCOLS if dataset and open_protocol(name).dataset == dataset]
    return [
        Published(name, value)
        for name in sorted(names, key=lambda name: name != protocol)
        for value in open_protocol(name).published
        if metric_of(value.metric) in metrics
    ]
