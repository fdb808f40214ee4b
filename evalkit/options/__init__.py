"""A user's options: one record each for requests, sampling and measuring, with its decorator."""

from evalkit.options.measuring import MeasureOptions, measuring
from evalkit.options.requesting import RequestOptions, requesting
from evalkit.options.sampling import SamplingOptions, sampling
from evalkit.options.serving import ServerOptions, serving
from evalkit.options.spreading import HERE, SpreadOptions, spreading

__all__ = [
    "HERE",
    "MeasureOptions",
    "RequestOptions",
    "SamplingOptions",
    "ServerOptions",
    "SpreadOptions",
    "measuring",
    "requesting",
    "sampling",
    "serving",
    "spreading",
]
