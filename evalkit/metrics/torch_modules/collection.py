"""Several metrics of one pass of the network.

`MetricCollection`'s own groups share states, so they would save a pass only among metrics that keep
the same thing, and they put two metrics of different networks together whose first batch was empty.
Here the batch is shared: each network reads it once, whatever the metrics keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torchmetrics import Metric, MetricCollection

from evalkit.core.errors import ConfigError
from evalkit.core.results import ResultRecord
from evalkit.metrics.torch_modules.base import ImageMetric
from evalkit.metrics.torch_modules.batches import ImageBatch, ValueRange, check_range
from evalkit.metrics.torch_modules.samples_only import Captioned, one_per_image


class MetricsInOnePass(MetricCollection):
    """Metrics whose networks read each batch once.

    Args:
        metrics: The metrics by name, a list of metrics of different classes, or one metric. Those
            that are given the same extractor object share its pass.
        value_range: Range of images of floats; None: the one that the metrics name.
        prefix: Before each name of `compute`.
        postfix: After each name of `compute`.

    Raises:
        ConfigError: The metrics name different ranges, or one is not of this package.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric] | Sequence[Metric] | Metric,
        *,
        value_range: ValueRange | None = None,
        prefix: str | None = None,
        postfix: str | None = None,
    ) -> None:
        if isinstance(metrics, Metric):
            metrics = [metrics]
        members = _checked(metrics)
        ranges = {one.value_range for one in members if one.value_range is not None}
        if value_range is None and len(ranges) > 1:
            raise ConfigError(
                f"The metrics name different ranges, {' and '.join(map(str, sorted(ranges)))}, but "
                "share their images. Name one with value_range=."
            )
        chosen: Any = dict(metrics) if isinstance(metrics, Mapping) else list(metrics)
        super().__init__(chosen, prefix=prefix, postfix=postfix, compute_groups=False)
        self.value_range = check_range(value_range) or next(iter(ranges), None)

    def update(
        self, images: Any, captions: str | Sequence[str] | None = None, *, real: bool = False
    ) -> None:
        """Add a batch to every metric that takes it.

        Args:
            images: Samples, or reference images.
            captions: The samples' prompts, for metrics of captions.
            real: Whether they are reference images, which only metrics with a reference take.

        Raises:
            ConfigError: No metric takes reference images, or a metric needs captions.
            DataError: Images of another type, shape or range.
        """
        batch = ImageBatch.of(images, self.value_range)
        if captions is not None and not real:
            one_per_image(captions, len(batch))  # before any metric takes the images
        for metric, arguments in self._takers(captions, real=real):
            metric.update(batch, **arguments)

    def forward(
        self, images: Any, captions: str | Sequence[str] | None = None, *, real: bool = False
    ) -> dict[str, Any]:
        """Refuse: a distance of one batch is biased far more than that of all images.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "MetricsInOnePass has no values of a single batch. Call update for each batch, and "
            "compute at the end."
        )

    def records(self) -> list[ResultRecord]:
        """Compute the records of every metric, with intervals; every rank must call it.

        Raises:
            NotEnoughImagesError: Fewer images than a metric needs.
        """
        return [record for metric in self._members() for record in metric.records()]

    def _members(self) -> list[ImageMetric]:
        return [one for one in self.values(copy_state=False) if isinstance(one, ImageMetric)]

    def _takers(
        self, captions: str | Sequence[str] | None, *, real: bool
    ) -> list[tuple[ImageMetric, dict[str, Any]]]:
        """Return the metrics that take a batch, each with the arguments of its `update`."""
        if real:
            takers = [one for one in self._members() if one.takes_real]
            if not takers:
                raise ConfigError(
                    "No metric takes images with real=True: each has a fixed reference, or needs "
                    "none."
                )
            return [(metric, {"real": True}) for metric in takers]
        found: list[tuple[ImageMetric, dict[str, Any]]] = []
        for metric in self._members():
            if isinstance(metric, Captioned) and captions is None:
                raise ConfigError(
                    f"{type(metric).__name__} needs the prompts of the samples. Pass captions=."
                )
            found.append((metric, {"captions": captions} if isinstance(metric, Captioned) else {}))
        return found


def _checked(metrics: Mapping[str, Metric] | Sequence[Metric]) -> list[ImageMetric]:
    """Return the metrics, all of this package.

    Raises:
        ConfigError: One is of another package.
    """
    found = []
    for metric in metrics.values() if isinstance(metrics, Mapping) else metrics:
        if not isinstance(metric, ImageMetric):
            raise ConfigError(
                f"{type(metric).__name__} is none of evalkit's metrics, so it can't share a pass. "
                "Keep it in a MetricCollection of its own."
            )
        found.append(metric)
    return found
