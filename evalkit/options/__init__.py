"""A user's options: one record each, such as for sampling and measuring, with its decorator."""

from evalkit.options.exporting import ExportOptions, exporting
from evalkit.options.measuring import MeasureOptions, measuring
from evalkit.options.requesting import RequestOptions, requesting
from evalkit.options.sampling import SamplingOptions, sampling
from evalkit.options.serving import ServerOptions, serving
from evalkit.options.tracking import TrackingOptions, tracking

__all__ = [
    "ExportOptions",
    "MeasureOptions",
    "RequestOptions",
    "SamplingOptions",
    "ServerOptions",
    "TrackingOptions",
    "exporting",
    "measuring",
    "requesting",
    "sampling",
    "serving",
    "tracking",
]
