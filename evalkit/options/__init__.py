"""A user's options: one record each for requests, sampling and measuring, with its decorator."""

from evalkit.options.measuring import MeasureOptions, measuring
from evalkit.options.requesting import RequestOptions, requesting
from evalkit.options.sampling import SamplingOptions, sampling

__all__ = [
    "MeasureOptions",
    "RequestOptions",
    "SamplingOptions",
    "measuring",
    "requesting",
    "sampling",
]
