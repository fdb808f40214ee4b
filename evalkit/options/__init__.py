"""A user's options: one record each, with the decorator that adds it to a command."""

from evalkit.options.exporting import ExportOptions, exporting
from evalkit.options.measuring import MeasureOptions, measuring
from evalkit.options.requesting import RequestOptions, requesting
from evalkit.options.sampling import SamplingOptions, sampling
from evalkit.options.serving import ServerOptions, serving
from evalkit.options.spreading import HERE, SpreadOptions, spreading
from evalkit.options.tracking import TrackingOptions, tracking
from evalkit.options.training import TrainingOptions, training

__all__ = [
    "HERE",
    "ExportOptions",
    "MeasureOptions",
    "RequestOptions",
    "SamplingOptions",
    "ServerOptions",
    "SpreadOptions",
    "TrackingOptions",
    "TrainingOptions",
    "exporting",
    "measuring",
    "requesting",
    "sampling",
    "serving",
    "spreading",
    "tracking",
    "training",
]
