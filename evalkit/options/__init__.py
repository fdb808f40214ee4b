"""A user's options: one record each for requests, sampling and measuring, with its decorator."""

from evalkit.options.measuring import MeasureOptions, measuring
from evalkit.options.requesting import RequestOptions, requesting
from evalkit.options.sampling import SamplingOptions, sampling
from evalkit.options.serving import ServerOptions, serving

__all__ = [
    "MeasureOptions",
    "RequestOptions",
    "SamplingOptions",
    "ServerOptions",
    "measuring",
    "requesting",
    "sampling",
    "serving",
]
