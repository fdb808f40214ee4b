"""`evalkit drawbench generate`: samples of several models for the prompts of a suite."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalkit.commands.arguments import named_paths, torch_device
from evalkit.core.errors import ConfigError
from evalkit.core.registry import load
from evalkit.core.run import RunFolder, WorkItem
from evalkit.core.seeding import SEED_RULE, image_seed

if TYPE_CHECKING:
    from drawbench.suites import Suite
    from evalkit.features.base import ProgressFactory

SELECTION = "all prompts of the suite, samples by index"


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """What a user can choose."""

    suite: str
    models: tuple[str, ...]
    per_prompt: int = 8
    seed: int = 0
    guidance: str | None = None
    steps: str | None = None
    sampler: str | None = None
    set_options: str | None = None
    candidates: int = 1
    rerank: str | None = None
    batch_size: int = 32
    device: str = "cpu"
    out: Path = Path("runs")
    weights: Mapping[str, Path] = field(default_factory=dict)


def register(app: typer.Typer) -> None:
    """Add the command to `evalkit drawbench`."""
    app.command("generate")(generate)


def generate(
    suite: Annotated[str, typer.Option(help="drawbench, parti, shapes-bench, FILE or NAME=FILE.")],
    models: Annotated[
        str, typer.Option(help="MODEL[:PRESET],MODEL[:PRESET]; see `evalkit list models`.")
    ],
    per_prompt: Annotated[int, typer.Option(min=1, help="Images per prompt.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder of the run folders.")] = Path("runs"),
    guidance: Annotated[
        str | None, typer.Option(help="Scale, such as 3 or base=1.35,sr1=8.")
    ] = None,
    steps: Annotated[str | None, typer.Option(help="Sampling steps, such as 50.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Sampler, such as ddim.")] = None,
    set_option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Further setting, such as temperature=0.9; repeatable."),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Images made per sample, of which --rerank keeps the best.")
    ] = 1,
    rerank: Annotated[
        str | None, typer.Option(help="CLIP that picks: clip (of the model's kind), or its name.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images sampled at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    weights: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH of local weights; repeatable.")
    ] = None,
) -> None:
    """Generate samples for a suite, one run folder per model, or resume them."""
    from evalkit.core.progress import console, progress_bar

    options = SuiteOptions(
        suite=suite,
        models=tuple(filter(None, (name.strip() for name in models.split(",")))),
        per_prompt=per_prompt,
        seed=seed,
        guidance=guidance,
        steps=steps,
        sampler=sampler,
        set_options=",".join(set_option) if set_option else None,
        candidates=candidates,
        rerank=rerank,
        batch_size=batch_size,
        device=torch_device(device),
        out=out,
        weights=named_paths(weights or []),
    )
    folders = generate_suite(options, progress_bar)
    for name, folder in folders.items():
        console.print(f"{name}: {folder}", soft_wrap=True, markup=False, highlight=False)
    listed = ",".join(f"{name}={folder}" for name, folder in folders.items())
    following = ["evalkit", "drawbench", "new", "STUDY", "--suite", suite, "--models", listed]
    console.print(f"next: {shlex.join(following)}", soft_wrap=True, markup=False, highlight=False)


def generate_suite(options: SuiteOptions, progress: ProgressFactory) -> dict[str, Path]:
    """Generate what is missing.

    Returns:
        Run folder by name of the model, without characters that a name in a study can't have.

    Raises:
        ConfigError: A model is named twice or takes no text, or an option does not suit it.
        MissingWeightsError: A model's weights are not to be had.
        RunFolderError: A folder holds another run.
    """
    from drawbench.suites import load_suite
    from evalkit.engine.local import generate as run_all
    from evalkit.reranking import reranking

    if not options.models or len(set(options.models)) != len(options.models):
        raise ConfigError(f"--models wants different models, got {', '.join(options.models)!r}")
    suite = load_suite(options.suite)
    folders = {}
    for model in options.models:
        generator, settings, items = _prepare(model, suite, options)
        name = generator.spec.name.replace("/", "-")
        folder = options.out / f"{suite.name}-{name.replace(':', '-')}"
        config = _config(generator.spec, settings, suite, len(items), options)
        config |= reranking(generator)
        run = RunFolder.create_or_resume(folder, config)
        with progress(f"Sampling {generator.spec.name}") as report:
            run_all(run, generator, settings, items, batch_size=options.batch_size, report=report)
        folders[name] = folder
    return folders


def _prepare(
    model: str, suite: Suite, options: SuiteOptions
) -> tuple[Any, Mapping[str, Any], Sequence[WorkItem]]:
    from evalkit.reranking import reranked

    generator = load("generators.catalog:load_generator")(
        model, device=options.device, weights=options.weights
    )
    if generator.spec.conditioning != "text":
        raise ConfigError(
            f"{model} takes no text ({generator.spec.conditioning}); a suite needs a model that "
            "does"
        )
    settings = load("generators.base:resolve_settings")(
        generator.spec,
        guidance=options.guidance,
        steps=options.steps,
        sampler=options.sampler,
        options=options.set_options,
    )
    generator = reranked(
        generator, rerank=options.rerank, candidates=options.candidates, device=options.device
    )
    items = [
        WorkItem(
            index=number * options.per_prompt + sample,
            caption_id=prompt.id,
            sample_index=sample,
            seed=image_seed(options.seed, prompt.id, sample),
            prompt=prompt.text,
        )
        for number, prompt in enumerate(suite.prompts)
        for sample in range(options.per_prompt)
    ]
    return generator, settings, items


def _config(
    spec: Any, settings: Mapping[str, Any], suite: Suite, count: int, options: SuiteOptions
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
            "name": suite.name,
            "n": count,
            "captions_sha256": suite.sha256,
            "selection": SELECTION,
        },
        "samples_per_prompt": options.per_prompt,
        "reranked": False,
        "seed": options.seed,
        "seed_rule": SEED_RULE,
        "batch_size": options.batch_size,
        "device": options.device.split(":")[0],
    }
