"""From a model's name and a data set to a run folder full of images."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evalkit.catalog import DATASETS
from evalkit.core.errors import ConfigError, RunFolderError
from evalkit.core.registry import load
from evalkit.core.run import RunFolder, WorkItem, config_hash
from evalkit.core.seeding import SEED_RULE, image_seed
from evalkit.datasets.base import (
    SELECTION_RULE,
    Caption,
    CaptionedImages,
    copy_of,
    hash_captions,
    select_captions,
)
from evalkit.datasets.classes import (
    CLASS_RULE,
    PLAIN_RULE,
    class_requests,
    labelled_part,
    plain_requests,
)
from evalkit.datasets.open import open_dataset, require_dataset
from evalkit.engine.local import generate
from evalkit.features.base import ProgressFactory, silent

DEFAULT_N = 1_000
"""Captions that are drawn from a data set that states no number of its own."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """What a user can choose about a run."""

    model: str
    data: str
    """Name or path of a data set."""
    coco_root: Path | None = None
    n: int | None = None
    """Captions to draw; None means the data set's own number, or all it has if they are fewer."""
    seed: int = 0
    guidance: str | None = None
    steps: str | None = None
    sampler: str | None = None
    set_options: str | None = None
    """Further settings of the model's stages, `STAGE.NAME=VALUE`, comma-separated."""
    candidates: int = 1
    """Images made per sample, of which the best is kept."""
    rerank: str | None = None
    """The CLIP that picks it: `clip`, or a name."""
    batch_size: int = 32
    device: str = "cpu"
    bf16: bool = False
    """Networks in bfloat16 where that is safe."""
    compiled: bool = False
    """Networks through torch.compile."""
    out: Path | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run whose images are there or can be made, with the data set that it is measured on."""

    run: RunFolder
    dataset: CaptionedImages
    captions: Sequence[Caption]
    generator: Any
    settings: Mapping[str, Any]
    items: Sequence[WorkItem]
    batch_size: int
    reference: str
    """Which images of the data set it is measured against, in words."""

    def generate(self, progress: ProgressFactory = silent) -> None:
        """Make the images that are not there yet."""
        with progress(f"Sampling {self.generator.spec.name}") as report:
            generate(
                self.run,
                self.generator,
                self.settings,
                self.items,
                batch_size=self.batch_size,
                report=report,
            )


def prepare_run(options: GenerationOptions, progress: ProgressFactory = silent) -> PreparedRun:
    """Resolve everything that decides the images, and open their folder.

    What is missing is told before torch is imported; a setting that the model lacks, before the
    data is drawn.

    Raises:
        ConfigError: An option that the model or the data set can't serve.
        MissingWeightsError: The model's weights are not to be had.
        MissingDataError: The data set is not to be had.
        RunFolderError: The folder holds another run.
    """
    if options.batch_size < 1:
        raise ConfigError(f"--batch-size wants at least 1, got {options.batch_size}")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed wants a whole number from 0 to 2^63 - 1, got {options.seed}")
    require_dataset(options.data, coco_root=options.coco_root)
    generator = load("generators.catalog:load_generator")(
        options.model,
        device=options.device,
        weights=options.weights,
        bf16=options.bf16,
        compiled=options.compiled,
    )
    settings = load("generators.base:resolve_settings")(
        generator.spec,
        guidance=options.guidance,
        steps=options.steps,
        sampler=options.sampler,
        options=options.set_options,
    )
    generator = load("evalkit.reranking:reranked")(
        generator, rerank=options.rerank, candidates=options.candidates, device=options.device
    )
    with progress(f"Opening {options.data}") as report:
        dataset = open_dataset(options.data, coco_root=options.coco_root, on_progress=report)
    dataset, wanted = select_requests(generator.spec, dataset, options.n, options.seed)
    config = _config(options, generator.spec, settings, dataset, wanted)
    config |= load("evalkit.reranking:reranking")(generator)
    folder = options.out or default_folder(options.model, dataset.name, config)
    return PreparedRun(
        run=RunFolder.create_or_resume(folder, config, library_versions()),
        dataset=dataset,
        captions=wanted.captions,
        generator=generator,
        settings=settings,
        items=_items(generator.spec, wanted.captions, options.seed),
        batch_size=options.batch_size,
        reference=wanted.reference,
    )


@dataclass(frozen=True)
class Requests:
    """What a model is asked for, and what it is measured against."""

    captions: Sequence[Caption]
    """In order; without a text for models that take none."""
    rule: str
    """How they were chosen."""
    reference: str
    """Which images of the data set are the reference."""


def select_requests(
    spec: Any, dataset: CaptionedImages, n: int | None, seed: int
) -> tuple[CaptionedImages, Requests]:
    """What to ask a model for, and the part of the data set that is its reference.

    A model that takes captions gets captions. One that takes classes gets each class as often as
    the reference has it, the reference being the images that have a class. Any other is asked for
    n images.

    Raises:
        ConfigError: More captions than there are, or classes that the model doesn't know.
        DataError: No image has a class.
    """
    whole = f"all images of {dataset.name}"
    if spec.conditioning == "text":
        captions = select_captions(dataset, _number(n, dataset), seed)
        return dataset, Requests(captions, SELECTION_RULE, whole)
    number = n or _default_n(dataset.name)
    if spec.conditioning == "none":
        return dataset, Requests(plain_requests(number), PLAIN_RULE, whole)
    part, labels = labelled_part(dataset, spec.num_classes)
    reference = whole
    if len(labels) < len(dataset.image_ids):
        reference = f"the {len(labels):,} images of {dataset.name} that have a class"
    return part, Requests(class_requests(labels, number), CLASS_RULE, reference)


def default_folder(model: str, data: str, config: Mapping[str, Any]) -> Path:
    """A folder of its own for every configuration, so that the same command resumes its run."""
    name = f"{model}-{data}".replace(":", "-").replace("/", "-")
    return Path("runs") / f"{name}-{config_hash(config)[:8]}"


def library_versions() -> dict[str, str]:
    """Versions of what can change an image or a feature."""
    libraries = ("evalkit", "torch", "torchvision", "numpy", "pillow", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def run_fingerprint(run: RunFolder) -> dict[str, Any]:
    """What every record about a run says of it."""
    config, dataset = run.config, run.config["dataset"]
    settings = config["settings"]
    return {
        "model": config["model"],
        "conditioning": config["conditioning"],
        "weights": config["weights"],
        "weights_sha256": config["weights_sha256"],
        "training_data": config["training_data"],
        "training_relation": training_relation(
            config["training_data"], dataset.get("copy_of") or dataset["name"]
        ),
        "dataset": dataset["name"],
        "captions": dataset["n"],
        "captions_sha256": dataset["captions_sha256"],
        "caption_selection": dataset["selection"],
        "seed": config["seed"],
        "seed_rule": config["seed_rule"],
        **{key: _by_stage(settings, key) for key in ("sampler", "steps", "guidance")},
        **_options_by_stage(settings),
        "batch_size": config["batch_size"],
        "device": config["device"],
        "sampling_precision": config.get("precision", "float32")
        + (", compiled" if config.get("compiled") else ""),
        "reranked": config.get("reranked", False),
        "run": run.fingerprint,
    }


def training_relation(training_data: Sequence[str], dataset: str) -> str:
    """Whether a model was trained on the data set (`known_as`) that it is measured on."""
    if not training_data:
        return "unknown"
    return "trained on this data set" if dataset in training_data else "zero-shot"


def _number(n: int | None, dataset: CaptionedImages) -> int:
    available = len(dataset.captions)
    if not available:
        raise ConfigError(
            f"{dataset.name} has no captions: add captions.jsonl (file_name, text) to the folder"
        )
    return min(available, _default_n(dataset.name)) if n is None else n


def _default_n(name: str) -> int:
    row = DATASETS.get(name)
    return row.default_n if row else DEFAULT_N


def _config(
    options: GenerationOptions,
    spec: Any,
    settings: Mapping[str, Any],
    dataset: CaptionedImages,
    wanted: Requests,
) -> dict[str, Any]:
    return {
        "model": spec.name,
        "display_name": spec.display_name,
        "conditioning": spec.conditioning,
        "size_px": spec.size_px,
        "training_data": list(spec.training_data),
        "weights": spec.weights,
        "weights_sha256": spec.weights_sha256,
        "settings": {stage: asdict(chosen) for stage, chosen in settings.items()},
        "dataset": {
            "name": dataset.name,
            "n": len(wanted.captions),
            "captions_sha256": hash_captions(wanted.captions),
            "selection": wanted.rule,
            **({"copy_of": copy_of(dataset)} if copy_of(dataset) else {}),
        },
        "seed": options.seed,
        "seed_rule": SEED_RULE,
        "batch_size": options.batch_size,
        "device": options.device.split(":")[0],
        "precision": "bf16 autocast" if options.bf16 else "float32",
        "compiled": options.compiled,
    }


def _items(spec: Any, captions: Sequence[Caption], seed: int) -> list[WorkItem]:
    return [
        WorkItem(
            index=index,
            caption_id=caption.id,
            sample_index=0,
            seed=image_seed(seed, caption.id, 0),
            prompt=caption.text if spec.conditioning == "text" else None,
            label=caption.label if spec.conditioning == "class" else None,
            image_id=caption.image_id or None,
        )
        for index, caption in enumerate(captions)
    ]


def _by_stage(settings: Mapping[str, Any], key: str) -> Any:
    """One value where the run has one stage, else the values by stage name."""
    values = {stage: chosen[key] for stage, chosen in settings.items() if chosen[key] is not None}
    return next(iter(values.values())) if len(settings) == 1 and values else values or None


def _options_by_stage(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Further settings by stage name, where a stage has any."""
    options = {stage: chosen["options"] for stage, chosen in settings.items() if chosen["options"]}
    return {"options": options} if options else {}


def check_complete(run: RunFolder) -> None:
    """Stop where a run is not finished.

    Raises:
        RunFolderError: Images are missing; the message says how many.
    """
    there, wanted = len(run.rows()), run.config["dataset"]["n"]
    if there != wanted:
        raise RunFolderError(
            f"{run.path} has {there} of {wanted} images; finish it with the command that began it"
        )
