"""`evalkit drawbench generate`: samples of several models for the prompts of a suite."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drawbench.commands.options import DATABASE_VARIABLE
from drawbench.errors import command_line
from drawbench.suites import load_suite
from evalkit.commands.panels import OptionsByRecord
from evalkit.core.errors import ConfigError
from evalkit.core.places import AnyPath, place
from evalkit.core.run import WHOLE, RunFolder
from evalkit.datasets.base import Caption
from evalkit.options import (
    HERE,
    SamplingOptions,
    ServerOptions,
    SpreadOptions,
    sampling,
    serving,
    spreading,
)
from evalkit.options.parsing import names

if TYPE_CHECKING:
    from drawbench.suites import Suite
    from evalkit.core.progress import ProgressFactory
    from evalkit.requests import Requests
    from generators.base import Generator, Settings

SELECTION = "all prompts of the suite, samples by index"


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """The options of the command."""

    suite: str
    models: tuple[str, ...]
    per_prompt: int = 8
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    out: AnyPath = Path("runs")
    spread: SpreadOptions = HERE


def register(app: typer.Typer) -> None:
    """Add the command to `evalkit drawbench`."""
    app.command("generate", cls=OptionsByRecord)(generate)


@spreading()
@serving()
@sampling()
def generate(
    suite: Annotated[
        str, typer.Option(help="Suite: drawbench, parti, shapes-bench, FILE or NAME=FILE.")
    ],
    models: Annotated[
        str, typer.Option(help="MODEL[:PRESET],MODEL[:PRESET]; see `evalkit list models`.")
    ],
    sampling: SamplingOptions,
    server: ServerOptions,
    spread: SpreadOptions,
    per_prompt: Annotated[int, typer.Option(min=1, help="Images per prompt.")] = 8,
    out: Annotated[
        AnyPath,
        typer.Option(
            parser=place, metavar="FOLDER|URL", help="Folder that receives the run folders."
        ),
    ] = Path("runs"),
) -> None:
    """Generate or resume samples for a suite, one run folder per model."""
    from evalkit.commands.asking import takes_access, with_cap
    from evalkit.core.progress import console, progress_bar

    listed = names(models)
    behind_servers = [model for model in listed if takes_access(model)]
    access = with_cap(behind_servers[0], server) if behind_servers else server.access()
    options = SuiteOptions(
        suite=suite,
        models=listed,
        per_prompt=per_prompt,
        sampling=replace(sampling, access=access),
        out=out,
        spread=spread,
    )
    folders = generate_suite(options, progress_bar)
    for name, folder in folders.items():
        console.print(f"{name}: {folder}", soft_wrap=True, markup=False, highlight=False)
    if spread.shard != WHOLE:
        for folder in folders.values():
            console.print(
                f"When all shards have ended: evalkit runs merge {folder}", soft_wrap=True
            )
        return
    made = ",".join(f"{name}={folder}" for name, folder in folders.items())
    words = ("evalkit", "drawbench", "new", "STUDY", "--suite", suite, "--models", made)
    following = command_line(*words, database=os.environ.get(DATABASE_VARIABLE, ""))
    console.print(f"next: {following}", soft_wrap=True, markup=False, highlight=False)


def generate_suite(options: SuiteOptions, progress: ProgressFactory) -> dict[str, AnyPath]:
    """Check all models, then generate the missing samples of each.

    Returns:
        Run folders by model name, without characters that names in a study can't have.

    Raises:
        ConfigError: A model is named twice or takes no prompts, or does not support an option.
        MissingWeightsError: A model's weights are unavailable.
        RunFolderError: A folder holds another run.
    """
    from evalkit.commands.asking import takes_access
    from evalkit.core.files import check_folder
    from evalkit.generation import (
        folder_name,
        generate_run,
        keep_categories,
        load_description,
        run_config,
        with_batch_size,
    )
    from evalkit.spreading import spread_sampling
    from generators.catalog import scheme_of

    if not options.models or len(set(options.models)) != len(options.models):
        raise ConfigError(
            f"--models must name different models, got {', '.join(options.models)!r}."
        )
    check_folder(options.out, "--out")
    suite = load_suite(options.suite)
    requests = suite_requests(suite, options.per_prompt)
    spread = options.spread
    chosen = spread_sampling(options.sampling, spread)
    any_server = any(map(takes_access, options.models))

    def sampling_of(model: str) -> SamplingOptions:
        access = chosen.access if takes_access(model) or not any_server else None
        return replace(chosen, access=access)

    def prepared(model: str) -> tuple[Generator, Settings]:
        return load_description(model, sampling_of(model), spread)

    runs: dict[str, RunFolder] = {}
    sizes: list[int] = []
    # Each model is loaded once more to sample: all of them at once may not fit into memory.
    for model in options.models:
        generator, settings = prepared(model)
        spec = generator.spec
        if spec.conditioning != "text":
            raise ConfigError(
                f"{model} takes no prompts (conditioning: {spec.conditioning}). Use a text model."
            )
        name = spec.name if scheme_of(spec.name) is None else folder_name(spec.name)
        name = name.replace("/", "-")
        folder = options.out / f"{suite.name}-{folder_name(name)}"
        sized = with_batch_size(chosen, spread, generator, settings, folder)
        sizes.append(sized.batch_size)
        config = run_config(generator, settings, requests, sized) | _numerics(chosen)
        runs[name] = RunFolder.create_or_resume(folder, config)
        keep_categories(runs[name], requests.captions)
    for model, run, size in zip(options.models, runs.values(), sizes, strict=True):
        chosen = replace(chosen, batch_size=size, fits_batch=False)
        if len(runs) > 1:
            generator, settings = prepared(model)
        items = requests.items(generator.spec, chosen.seed)
        generate_run(
            run, generator, settings, items,
            model=model, sampling=sampling_of(model), spread=spread, progress=progress,
        )  # fmt: skip
    return {name: run.path for name, run in runs.items()}


def suite_requests(suite: Suite, per_prompt: int) -> Requests:
    """Request every prompt of a suite `per_prompt` times."""
    from evalkit.requests import Requests

    several = len(suite.categories) > 1
    prompts = [
        Caption(prompt.id, "", prompt.text, kind=prompt.category if several else None)
        for prompt in suite.prompts
    ]
    return Requests(
        wanted=[(prompt, sample) for prompt in prompts for sample in range(per_prompt)],
        name=suite.name,
        captions_sha256=suite.sha256,
        rule=SELECTION,
        marks={"samples_per_prompt": per_prompt, "reranked": False},
    )


def _numerics(chosen: SamplingOptions) -> dict[str, Any]:
    """Return the entries that only compiled or reduced-precision runs have in their configuration.

    The hashes of runs made before these options existed therefore stay valid.
    """
    from evalkit.generation import sampling_precision

    marks: dict[str, Any] = {}
    precision = sampling_precision(chosen)
    if precision != "float32":
        marks["precision"] = precision
    if chosen.compiled:
        marks["compiled"] = True
    return marks
