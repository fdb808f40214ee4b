"""Headings of `--help` for the options that several commands share."""

from __future__ import annotations

from typing import Any

from evalkit.core.help import HeadedCommand

_RECORDS = {
    "asked_": "What to generate",
    "sampling_": "Sampling",
    "server_": "Server",
    "spread_": "Where it runs",
    "exports_": "Results",
    "tracking_": "Experiment trackers",
    "training_": "Data, start and steps",
}
"""Headings by the prefix of a parameter: the options record that it belongs to."""
_MEASURING = {
    "Metrics": ("metrics", "protocol", "allow_short", "level", "seed"),
    "Images": (
        "reference_images", "crop", "size_px", "filter", "reencode", "sample_crop",
        "sample_size_px", "sample_saved", "sample_reencode", "sample_exclude", "blur_px",
        "skip_bad",
    ),
    "Features": (
        "features", "inception_weights", "inception_layer", "resize", "clip_model",
        "clip_variant", "clip_prefix", "lpips_weights",
    ),
    "Settings of single metrics": (
        "kid_subsets", "kid_subset_size", "is_splits", "neighbours", "distractors",
        "num_influential",
    ),
    "Speed and storage": (
        "batch_size", "workers", "jpeg", "precision", "compile", "device", "store",
    ),
}  # fmt: skip
"""Fields of `MeasureOptions` by heading."""
_HEADINGS = {f"measure_{name}": title for title, names in _MEASURING.items() for name in names}

EVALUATE = "Evaluate"
GENERATE = "Generate"
STUDY = "Human study"
DATA = "Data and weights"
TRAIN = "Train"
ABOUT = "About this installation"


class OptionsByRecord(HeadedCommand):
    """A command whose options are listed by the options record that they belong to."""

    def heading(self, param: Any) -> str:
        """Return the heading of an option, by its record."""
        for prefix, title in _RECORDS.items():
            if param.name.startswith(prefix):
                return title
        return _HEADINGS.get(param.name) or super().heading(param)
