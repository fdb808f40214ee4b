"""What a user can choose: a record each for asking, sampling and measuring, and its decorator."""

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
