"""The options of measuring, for every command that measures.

Fields that a protocol decides (`evalkit.protocols`) have no default on the command line: the
protocol decides them unless they are typed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.catalog import metric_of
from evalkit.core.intervals import check_level
from evalkit.core.places import AnyPath, place
from evalkit.options.devices import torch_device
from evalkit.options.offering import Offer, option
from evalkit.options.parsing import names, whole_numbers
from evalkit.options.spreading import HERE, SpreadOptions

DEFAULT_CLIP = "ViT-L/14"
"""The default of torchmetrics, whose definition of the score is the default here."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How to measure; every field that can change a number is in the fingerprints."""

    metrics: tuple[str, ...] | None = option(
        None,
        "--metrics",
        "Comma-separated names of `evalkit list metrics`, or of their records, such as "
        "fid-infinity. [default: the protocol's: Fréchet distance, CLIP score and, on shapes, "
        "composition]",
        typed=str,
        parse=lambda text: tuple(dict.fromkeys(map(metric_of, names(text)))),
        optional=True,
    )
    """Names of `evalkit list metrics`; None: the protocol's, as far as the images allow."""
    features: str = option(
        "inception",
        "--features",
        "Extractor: inception (FID), dinov2, shapes-clip or an open_clip model (FD). [default: "
        "the protocol's]",
        optional=True,
    )
    """Extractor of fd, kid and prdc."""
    inception_weights: Path | None = option(  # noqa: RUF009 (makes a field)
        None,
        "--inception-weights",
        "File of Inception weights. [default: from the cache, else downloaded]",
    )
    lpips_weights: Path | None = option(  # noqa: RUF009 (makes a field)
        None,
        "--lpips-weights",
        "File of torchvision's AlexNet for lpips. [default: from the cache, else downloaded]",
    )
    inception_layer: str = option(
        "2048", "--inception-layer", "Layer of fid, kid and prdc: 64, 192, 768 or 2048."
    )
    resize: str = option(
        "tf1",
        "--resize",
        "Resizing to Inception's 299 px: tf1, pytorch-fid, clean, legacy_pytorch or torchmetrics. "
        "[default: the protocol's, tf1]",
        optional=True,
    )
    clip_model: str = option(
        DEFAULT_CLIP,
        "--clip-model",
        "CLIP of clip-score and r-precision. [default: the protocol's: shapes-clip for shapes, "
        "else ViT-L/14]",
        optional=True,
    )
    """CLIP of clip-score and r-precision."""
    clip_variant: str = option(
        "torchmetrics",
        "--clip-variant",
        "Definition of the CLIP score: torchmetrics, hessel or raw. [default: the protocol's, "
        "torchmetrics]",
        optional=True,
    )
    """Definition of clip-score, see `evalkit.metrics.clip_score`."""
    clip_prefix: str | None = option(
        None, "--clip-prefix", "Prefix of each caption. [default: the variant's]"
    )
    kid_subsets: int = option(100, "--kid-subsets", "Number of random subsets for KID.", minimum=1)
    kid_subset_size: int = option(
        1000, "--kid-subset-size", "Maximum images per KID subset.", minimum=2
    )
    is_splits: int = option(
        10, "--is-splits", "Number of splits for the Inception Score.", minimum=1
    )
    neighbours: tuple[int, ...] = option(
        (3, 5),
        "--neighbours",
        "k of precision, recall, density and coverage, such as 3,5.",
        typed=str,
        parse=partial(whole_numbers, flag="--neighbours"),
    )
    distractors: int = option(
        99, "--distractors", "Number of wrong captions for r-precision.", minimum=1
    )
    level: float = option(0.95, "--level", "Confidence level of the intervals.")
    crop: str = option(
        "none",
        "--crop",
        "Crop of the reference: none, center, squash, short-side, torchvision or adm. [default: "
        "the protocol's]",
        optional=True,
    )
    size_px: int | None = option(
        None, "--size", "Size of the reference in px. [default: the protocol's]", minimum=1
    )
    """Side of the reference images; None: the size after cropping."""
    filter: str = option(
        "bicubic",
        "--filter",
        "Filter of resizing to --size: bicubic, lanczos, bilinear or box. [default: the "
        "protocol's]",
        optional=True,
    )
    sample_crop: str = option(
        "none",
        "--sample-crop",
        "Crop of the samples, as for --crop. [default: the protocol's]",
        optional=True,
    )
    sample_size_px: int | None = option(
        None, "--sample-size", "Size of the samples in px. [default: unchanged]", minimum=1
    )
    reference_images: str = option(
        "all",
        "--reference-images",
        "Reference images: all, or matched (those of the samples' captions). [default: the "
        "protocol's]",
        optional=True,
    )
    reencode: str = option(
        "none",
        "--reencode",
        "Save the resized reference: none, png, jpeg-75, jpeg-90 or jpeg-95. [default: the "
        "protocol's]",
        optional=True,
    )
    sample_saved: str = option(
        "none",
        "--sample-saved",
        "File format of the samples before resizing, as for --reencode. [default: the protocol's]",
        optional=True,
    )
    sample_reencode: str = option(
        "none",
        "--sample-reencode",
        "Save the resized samples, as for --reencode. [default: the protocol's]",
        optional=True,
    )
    sample_exclude: str = option(
        "none",
        "--sample-exclude",
        "Samples to leave out: none or black. [default: the protocol's]",
        optional=True,
    )
    blur_px: float = option(
        0.0, "--blur", "Radius of a Gaussian blur of both sets, in px.", minimum=0
    )
    allow_short: bool = option(
        False, "--allow-short", "Measure fewer images than the named protocol says."
    )
    batch_size: int = option(
        32, "--feature-batch-size", "Images per batch of a network.", minimum=1
    )
    workers: int | None = option(
        None,
        "--workers",
        "Decoding processes; 0 for threads. [default: 0 on a CPU]",
        minimum=0,
    )
    jpeg: str = option(
        "pillow",
        "--jpeg",
        "Decoder of JPEG files: pillow, or device (torchvision's; NVJPEG on a GPU).",
    )
    precision: str = option("float32", "--precision", "Precision of the network: float32 or bf16.")
    compile: bool = option(
        False, "--compile", "Compile the Inception network; worthwhile from about 10,000 images."
    )
    device: str = option("cpu", "--device", "Device: auto, cpu, cuda or cuda:N.", shown="auto")
    seed: int = option(0, "--metric-seed", "Seed of the metrics' random draws.", minimum=0)
    skip_bad: bool = option(False, "--skip-bad", "Skip unreadable images.")
    store: AnyPath | None = option(  # noqa: RUF009 (makes a field)
        None,
        "--store",
        "Folder of stored features, or its URL. [default: in the cache]",
        typed=str,
        parse=place,
    )
    num_influential: int = option(
        24, "--influential", "Number of images to list that raise the distance most.", minimum=0
    )
    spread: SpreadOptions = field(default=HERE, compare=False)
    """Where the networks run."""
    typed: frozenset[str] = field(default=frozenset(), compare=False)
    """Fields that a protocol may decide and that were typed, also where they repeat a default."""
    default_metrics: tuple[str, ...] = ("fid", "clip-score", "composition")
    """The protocol's metrics; those that apply to the images are measured."""
    protocol: str = option(
        "",
        "--protocol",
        "Measurement protocol: a name or a TOML file. [default: the data set's]",
        optional=True,
    )
    """Name or file of a protocol; empty: what the data set stands for."""
    protocol_sha256: str = ""
    """Hash of what that protocol decides."""
    protocol_choices: tuple[int, int] = (0, 0)
    """How many of its values are our choice, and how many it has."""
    images_short: str = ""
    """Such as `29,000 of 30,000`, where fewer images are measured than the protocol says."""
    by_category: bool = False
    """Whether each category is measured on its own as well."""
    is_split_size: int | None = None
    """Images per part of the Inception Score, in their order; None: `is_splits` shuffled parts."""
    overrides: tuple[str, ...] = ()
    """Values of that protocol, by their dotted names, from which these options depart."""

    def __post_init__(self) -> None:
        check_level(self.level)

    def protocol_marks(self) -> dict[str, Any]:
        """Return the fingerprint entries on the protocol; empty without a named one."""
        if not self.protocol:
            return {}
        marks: dict[str, Any] = {
            "protocol": self.protocol,
            "protocol_sha256": self.protocol_sha256,
            "protocol_overrides": list(self.overrides),
        }
        ours, values = self.protocol_choices
        if ours:
            marks["protocol_choices"] = f"{ours} of {values} values our choice"
        if self.images_short:
            marks["protocol_images"] = self.images_short
        return marks

    def is_given(self, name: str) -> bool:
        """Return whether a field was typed, or differs from its default.

        A protocol does not change such a field.
        """
        return name in self.typed or getattr(self, name) != _DEFAULTS[name]


_DEFAULTS = {
    f.name: f.default
    for f in dataclasses.fields(MeasureOptions)
    if f.default is not dataclasses.MISSING
}


def _build(fields: dict[str, Any], typed: frozenset[str]) -> MeasureOptions:
    if "device" in fields:
        bf16 = fields.get("precision") == "bf16"
        fields["device"] = torch_device(fields["device"], bf16=bf16)
    return MeasureOptions(**fields, typed=typed)


def measured_elsewhere(measure: MeasureOptions, spread: SpreadOptions) -> MeasureOptions:
    """Return the options of measuring where the options of spreading say.

    On a cluster, `--workers` is its number of workers and not of processes that decode.
    """
    if spread.engine == "ray":
        spread = dataclasses.replace(spread, workers=measure.workers)
        return dataclasses.replace(measure, spread=spread, workers=None)
    if spread.devices:
        device = spread.devices[0].split(":")[0]
        return dataclasses.replace(measure, spread=spread, device=device)
    return measure


measuring = Offer(record=MeasureOptions, parameter="measure", build=_build)
"""Replace a command's parameter `measure` by the options of measuring."""
