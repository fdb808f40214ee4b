"""From a model name and a source of requests to a run folder full of images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, RunFolderError
from evalkit.core.files import check_folder
from evalkit.core.places import AnyPath, has_file, read_all
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.results import write_atomically
from evalkit.core.run import WHOLE, RunFolder, WorkItem, config_hash
from evalkit.core.run_checks import note_shard
from evalkit.core.seeding import SEED_RULE
from evalkit.datasets.base import Caption, CaptionedImages
from evalkit.engine import generate
from evalkit.options import HERE, SamplingOptions, SpreadOptions
from evalkit.requests import Requests, RequestSource, belongs_to_no_dataset
from evalkit.spreading import refuse_spread_server, spread_sampling
from evalkit.workers.opening import library_versions, pool_opener
from evalkit.workers.sampling import SamplingWork, generate_in_workers
from generators.base import Generator, GeneratorSpec, Request, Settings, resolve_settings
from generators.catalog import load_generator
from generators.fitting import FittedGenerator, largest_batch

CATEGORIES_FILE = "categories.json"
"""In a run folder: the category of each caption by its id."""
_MOST_CHARACTERS = 100
"""Of a name within a folder's name; file systems allow 255 bytes."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """The options of a run."""

    model: str
    source: RequestSource
    """Source of the requests."""
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    out: AnyPath | None = None
    """The run folder; None: a folder unique to the configuration."""
    spread: SpreadOptions = HERE
    """Where the work runs."""


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run that is ready to generate, with the data set that it is measured on."""

    run: RunFolder
    requests: Requests
    generator: Generator
    settings: Settings
    items: Sequence[WorkItem]
    model: str
    sampling: SamplingOptions
    spread: SpreadOptions = HERE

    @property
    def batch_size(self) -> int:
        """Images per batch."""
        return self.sampling.batch_size

    @property
    def dataset(self) -> CaptionedImages:
        """The data set that the run is measured on."""
        assert self.requests.dataset is not None, "only runs on a data set are measured"
        return self.requests.dataset

    @property
    def captions(self) -> Sequence[Caption]:
        """The caption of each image."""
        return self.requests.captions

    @property
    def reference(self) -> str:
        """Description of the reference images."""
        return self.requests.reference

    def generate(
        self, progress: ProgressFactory = silent, *, num_batches: int | None = None
    ) -> None:
        """Generate the missing images, here or in other processes.

        Args:
            progress: Such as `evalkit.core.progress.progress_bar`.
            num_batches: Only the missing ones among this many first batches.
        """
        generate_run(
            self.run,
            self.generator,
            self.settings,
            self.items if num_batches is None else self.items[: num_batches * self.batch_size],
            model=self.model,
            sampling=self.sampling,
            spread=self.spread,
            progress=progress,
        )


def generate_run(
    run: RunFolder,
    generator: Generator,
    settings: Settings,
    items: Sequence[WorkItem],
    *,
    model: str,
    sampling: SamplingOptions,
    spread: SpreadOptions,
    progress: ProgressFactory = silent,
) -> None:
    """Generate the missing images of a run, here or in other processes.

    Args:
        run: The folder that receives them.
        generator: The loaded model; other processes load it themselves.
        settings: Its settings.
        items: All items of the run, or the first ones.
        model: The model's name.
        sampling: The options that it was loaded with.
        spread: Where the work runs.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        WorkerError: A worker reported an error, or a batch cost several workers.
        OutputError: The folder can't be written.
        RunFolderError: Another process writes to it, or it is damaged.
    """
    shard = spread.shard
    if shard != WHOLE:
        note_shard(run, shard.number, shard.num, done=False)
    if spread.is_spread:
        work = SamplingWork(
            run=run.path,
            load=partial(load_on_device, model, sampling),
            versions=library_versions(),
        )
        generate_in_workers(
            run,
            items,
            pool_opener(work, spread),
            batch_size=sampling.batch_size,
            worker_timeout_s=spread.worker_timeout,
            batch_timeout_s=spread.batch_timeout,
            shard=shard,
            progress=progress,
        )
    else:
        generate(
            run, generator, settings, items,
            batch_size=sampling.batch_size, progress=progress, shard=shard,
        )  # fmt: skip
    if shard != WHOLE:
        note_shard(run, shard.number, shard.num, done=True)


def load_on_device(
    model: str, sampling: SamplingOptions, device: str
) -> tuple[Generator, Settings]:
    """Load a model onto a device; a worker's `Loading`."""
    return prepare_generator(model, replace(sampling, device=device))


def load_description(
    model: str, sampling: SamplingOptions, spread: SpreadOptions
) -> tuple[Generator, Settings]:
    """Load a model for what its specification says, and to sample unless workers do.

    Raises:
        ConfigError: An option that the model does not support.
        MissingWeightsError: The model's weights are unavailable.
    """
    refuse_spread_server(model, spread)
    if spread.is_spread:  # the memory of the GPU is the worker's
        sampling = replace(sampling, device="cpu", compiled=False)
    return prepare_generator(model, sampling)


def prepare_run(
    options: GenerationOptions,
    progress: ProgressFactory = silent,
    *,
    loaded: Generator | None = None,
) -> PreparedRun:
    """Resolve everything that determines the images, and open their folder.

    Missing weights and data raise before torch is imported, unsupported settings before data is
    drawn.

    Args:
        options: The options of the run.
        progress: Such as `evalkit.core.progress.progress_bar`.
        loaded: The model, if an earlier run of the same options but for its settings loaded it.

    Raises:
        ConfigError: An option that the model or the source does not support.
        MissingWeightsError: The model's weights are unavailable.
        MissingDataError: The data set is unavailable.
        RunFolderError: The folder holds another run.
    """
    source = options.source
    sampling = spread_sampling(options.sampling, options.spread)
    check_sampling(sampling)
    if options.out is not None:
        check_folder(options.out, "--out")
    source.check()
    if loaded is None:
        generator, settings = load_description(options.model, sampling, options.spread)
    else:
        generator, settings = loaded, chosen_settings(loaded.spec, sampling)
    requests = source.select(generator.spec, sampling.seed, progress)
    config = run_config(generator, settings, requests, sampling)
    config |= {
        "precision": sampling_precision(sampling, _precision(generator.spec, settings)),
        "compiled": sampling.compiled,
    }
    folder = options.out or default_folder(options.model, requests.name, config)
    sampling = with_batch_size(sampling, options.spread, generator, settings, folder)
    config["batch_size"] = sampling.batch_size
    run = RunFolder.create_or_resume(folder, config, library_versions())
    keep_categories(run, (caption for caption, _ in requests.wanted))
    return PreparedRun(
        run=run,
        requests=requests,
        generator=generator,
        settings=settings,
        items=requests.items(generator.spec, sampling.seed),
        model=options.model,
        sampling=sampling,
        spread=options.spread,
    )


def _precision(spec: GeneratorSpec, settings: Settings) -> str:
    """Return the arithmetic of a model's networks."""
    chosen = (stage.options.get("dtype") for stage in settings.values())
    return str(next(filter(None, chosen), spec.precision))


def keep_categories(run: RunFolder, captions: Iterable[Caption]) -> None:
    """Store the categories of a run's captions beside its images, if there are any.

    They change no image, so they are no part of the run's configuration.
    """
    found = {caption.id: caption.kind for caption in captions if caption.kind}
    if found:
        content = json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True)
        write_atomically(run.path / CATEGORIES_FILE, content.encode())


def kept_categories(run: RunFolder) -> dict[str, str]:
    """Return the categories of a run's captions by their ids; none if it has none.

    Raises:
        RunFolderError: The file is damaged.
    """
    path = run.path / CATEGORIES_FILE
    content = read_all([path])[0]
    if content is None:
        return {}
    try:
        found = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}). Delete it.") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} is damaged: expected an object. Delete it.")
    return {str(key): str(value) for key, value in found.items()}


def check_sampling(sampling: SamplingOptions) -> None:
    """Check the ranges of numbers; the command line checks them too.

    Raises:
        ConfigError: A number is out of range.
    """
    if sampling.batch_size < 1 and not sampling.fits_batch:
        raise ConfigError(f"--batch-size must be at least 1, got {sampling.batch_size}.")
    if not 0 <= sampling.seed < 2**63:
        raise ConfigError(f"--seed must be from 0 to 2^63 - 1, got {sampling.seed}.")


def prepare_generator(model: str, sampling: SamplingOptions) -> tuple[Generator, Settings]:
    """Load a generator by name, with re-ranking on request; return it and its settings.

    Raises:
        ConfigError: An option that the model does not support.
        MissingWeightsError: The model's weights are unavailable.
    """
    generator = load_generator(
        model,
        device=sampling.device,
        weights=sampling.weights,
        bf16=sampling.bf16,
        fp16=sampling.fp16,
        compiled=sampling.compiled,
        offload=sampling.offload,
        access=sampling.access,
    )
    from evalkit.reranking import reranked  # imports torch, as the model did

    settings = chosen_settings(generator.spec, sampling)
    fitted = FittedGenerator(generator, sampling.batch_size, filled=sampling.compiled)
    return (
        reranked(
            fitted,
            rerank=sampling.rerank,
            candidates=sampling.candidates,
            device=sampling.device,
        ),
        settings,
    )


def with_batch_size(
    sampling: SamplingOptions,
    spread: SpreadOptions,
    generator: Generator,
    settings: Settings,
    folder: AnyPath,
) -> SamplingOptions:
    """Find the batch size by trial, if it is `auto`; a run that was begun keeps its own.

    Raises:
        ConfigError: The run is spread over processes, each of which would find another, or
            compiled, which takes a minute or more for each size that is tried.
    """
    if not sampling.fits_batch:
        return sampling
    if spread.is_spread or spread.shard != WHOLE:
        raise ConfigError(
            "--batch-size auto tries one device, but --devices, --shard or --engine use several. "
            "Give a number."
        )
    if sampling.compiled:
        raise ConfigError(
            "--batch-size auto would compile the model for each size that it tries. Give a number "
            "with --compile-model."
        )
    fitted = _fitted(generator)
    if has_file(folder / "run.json"):
        size = int(RunFolder.read(folder).config["batch_size"])
    else:
        size = largest_batch(
            fitted.generator, _trial(generator.spec), settings, device=sampling.device
        )
    fitted.batch_size = fitted.part_size = size
    return replace(sampling, batch_size=size, fits_batch=False)


def _fitted(generator: Generator) -> FittedGenerator:
    """Return the part of a prepared generator that divides its batches."""
    while not isinstance(generator, FittedGenerator):
        generator = generator.generator  # type: ignore[attr-defined]
    return generator


def _trial(spec: GeneratorSpec) -> Request:
    return Request(
        prompt="a photograph of a cat" if spec.conditioning == "text" else None,
        label=0 if spec.conditioning == "class" else None,
    )


def chosen_settings(spec: GeneratorSpec, sampling: SamplingOptions) -> Settings:
    """Return the settings of each stage that the options choose.

    Raises:
        ConfigError: The model has no such stage or setting, or the value is out of range.
    """
    return resolve_settings(
        spec,
        guidance=sampling.guidance,
        steps=sampling.steps,
        sampler=sampling.sampler,
        options=sampling.set_options,
    )


def sampling_precision(sampling: SamplingOptions, stated: str = "float32") -> str:
    """Return the numerical precision of sampling, in words for fingerprints.

    Args:
        sampling: The options.
        stated: What the model states of itself or its settings chose.
    """
    if sampling.bf16 or sampling.fp16:
        return "bf16" if sampling.bf16 else "fp16"
    if stated != "float32" or sampling.device == "cpu":
        return stated
    return "float32, TF32 off"


def run_config(
    generator: Generator, settings: Settings, requests: Requests, sampling: SamplingOptions
) -> dict[str, Any]:
    """Return the configuration that determines the images of a run, for any source."""
    from evalkit.reranking import reranking
    from generators.weights.labelled import known_training_data  # imports torch

    spec: GeneratorSpec = generator.spec
    return {
        "model": spec.name,
        "display_name": spec.display_name,
        "conditioning": spec.conditioning,
        "size_px": spec.size_px,
        "training_data": list(known_training_data(spec, sampling.weights)),
        "weights": spec.weights,
        "weights_sha256": spec.weights_sha256,
        "settings": {stage: asdict(chosen) for stage, chosen in settings.items()},
        "dataset": requests.described(),
        **requests.marks,
        "seed": sampling.seed,
        "seed_rule": SEED_RULE,
        "batch_size": sampling.batch_size,
        "device": sampling.device.split(":")[0],
        **reranking(generator),
    }


def default_folder(model: str, data: str, config: Mapping[str, Any]) -> Path:
    """Return a folder unique to the configuration, so that the same command resumes its run."""
    return Path("runs") / f"{folder_name(f'{model}-{data}')}-{config_hash(config)[:8]}"


def folder_name(text: str) -> str:
    """Return a model's name or place as one that a folder can have, the end of a long one.

    >>> folder_name("glide:tiny"), folder_name("folder:/data/my images?layout=geneval")
    ('glide-tiny', 'folder-data-my-images-layout-geneval')
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[-_MOST_CHARACTERS:]


def run_fingerprint(run: RunFolder) -> dict[str, Any]:
    """Return the fingerprint entries that all records of a run share."""
    config, dataset = run.config, run.config["dataset"]
    settings = config["settings"]
    return {
        "model": config["model"],
        "conditioning": config["conditioning"],
        "weights": config["weights"],
        "weights_sha256": config["weights_sha256"],
        "training_data": config["training_data"],
        "training_relation": "unknown"
        if belongs_to_no_dataset(dataset)
        else training_relation(config["training_data"], dataset.get("copy_of") or dataset["name"]),
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
    """Say whether a model was trained on the data set (`known_as`) that it is measured on."""
    if not training_data:
        return "unknown"
    return "trained on this data set" if dataset in training_data else "zero-shot"


def _by_stage(settings: Mapping[str, Any], key: str) -> Any:
    """Return one value for a run with one stage, else the values by stage name."""
    values = {stage: chosen[key] for stage, chosen in settings.items() if chosen[key] is not None}
    return next(iter(values.values())) if len(settings) == 1 and values else values or None


def _options_by_stage(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return further settings by stage name, where a stage has any."""
    options = {stage: chosen["options"] for stage, chosen in settings.items() if chosen["options"]}
    return {"options": options} if options else {}


def check_complete(run: RunFolder) -> None:
    """Check that a run is finished.

    Raises:
        RunFolderError: Images are missing; the message says how many.
    """
    there, wanted = run.num_rows(), run.config["dataset"]["n"]
    if there != wanted:
        raise RunFolderError(
            f"{run.path} has {there} of {wanted} images. Repeat the command that began it."
        )
