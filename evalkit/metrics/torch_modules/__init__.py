"""Every metric as a `torchmetrics.Metric`, for training loops and distributed evaluation.

`update` takes batches of images (uint8, or floats of a named range; channels first or last) or
lists of images of different sizes, `compute` returns the result of the metric's function as float64
tensors, `records` the records of `evalkit score` with their intervals. torchmetrics gathers the
states; ranks may hold any number of images, also none. The Fréchet distance keeps mean and scatter,
and for its interval the samples' features; the others keep features.
"""

from evalkit.metrics.torch_modules.base import ImageMetric
from evalkit.metrics.torch_modules.batches import ImageBatch, as_uint8_images
from evalkit.metrics.torch_modules.collection import MetricsInOnePass
from evalkit.metrics.torch_modules.frechet import FrechetDistance, merge_packed, pack, unpack
from evalkit.metrics.torch_modules.references import FixedReference
from evalkit.metrics.torch_modules.samples_only import (
    ClipScore,
    InceptionScore,
    RPrecision,
    one_per_image,
)
from evalkit.metrics.torch_modules.two_sets import (
    ClipMaximumMeanDiscrepancy,
    KernelInceptionDistance,
    PrecisionRecallDensityCoverage,
)

__all__ = [
    "ClipMaximumMeanDiscrepancy",
    "ClipScore",
    "FixedReference",
    "FrechetDistance",
    "ImageBatch",
    "ImageMetric",
    "InceptionScore",
    "KernelInceptionDistance",
    "MetricsInOnePass",
    "PrecisionRecallDensityCoverage",
    "RPrecision",
    "as_uint8_images",
    "merge_packed",
    "one_per_image",
    "pack",
    "unpack",
]
