"""The command line. A command parses, calls one function, prints and exits.

Nothing heavy is imported here: each command imports what it needs when it is called.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.options import (
    MeasureOptions,
    RequestOptions,
    SamplingOptions,
    measuring,
    requesting,
    sampling,
)
from evalkit.options.devices import torch_device
from evalkit.options.parsing import named_paths

app = typer.Typer(
    name="evalkit",
    help="Which text-to-image model is better, by how much, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Make or find a data set.", no_args_is_help=True)
app.add_typer(data_app, name="data")
plan_app = typer.Typer(help="How many images a comparison needs.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")
weights_app = typer.Typer(help="Weights that others published.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

Model = Annotated[
    str, typer.Option("--model", "-m", help="MODEL[:PRESET], see `evalkit list models`.")
]
CocoRoot = Annotated[Path | None, typer.Option(help="Folder with val2014/ and annotations/.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draw and of the noise.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images computed at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; runs/... unless given.")]
Weights = Annotated[list[str] | None, typer.Option(help="NAME=PATH of local weights; repeatable.")]
RetiredSeed = Annotated[int | None, typer.Option("--seed", hidden=True)]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Data set, folder of images or statistics file; the protocol's data set unless given.",
    ),
]
OwnAgainst = Annotated[
    str | None,
    typer.Option("--against", help="The reference; the runs' own data set unless given."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the records here as well.")]

_OF_OTHER_METRICS = (
    "clip_model", "clip_variant", "clip_prefix", "kid_subsets", "kid_subset_size", "is_splits",
    "neighbours", "distractors", "metrics", "num_influential",
)  # fmt: skip
_NOT_OF_A_PLAN = _OF_OTHER_METRICS
_NOT_OF_STATISTICS = (*_NOT_OF_A_PLAN, "level", "sample_crop", "sample_size_px", "seed")


class Kind(StrEnum):
    """What `evalkit list` can list."""

    models = "models"
    datasets = "datasets"
    protocols = "protocols"
    metrics = "metrics"
    recipes = "recipes"


@app.command()
@measuring(without=("device",))
@sampling()
@requesting(without=("protocol", "prompt", "prompts", "labels"))
def fid(
    model: Model,
    asked: RequestOptions,
    sampling: SamplingOptions,
    measure: MeasureOptions,
    out: Out = None,
    json_file: JsonFile = None,
) -> None:
    """Generate (or resume), measure and report: FID, CLIP score and their kin."""
    from evalkit.commands.asking import generation_options
    from evalkit.commands.fid import fid as run

    asked = replace(asked, protocol=measure.protocol)
    options = generation_options(model, asked, sampling, out)
    measure = replace(measure, device=sampling.device)
    run(options, measure, json_file=json_file, command=_command_line())


@app.command()
@sampling()
@requesting()
def generate(
    model: Model, asked: RequestOptions, sampling: SamplingOptions, out: Out = None
) -> None:
    """Generate images into a run folder, or resume one."""
    from evalkit.commands.asking import generation_options
    from evalkit.commands.fid import generate as run

    run(generation_options(model, asked, sampling, out))


@app.command()
@measuring(flags={"batch_size": "--batch-size"})
def score(
    samples: Annotated[str, typer.Argument(help="Run folder, folder of images, zip, tar or npz.")],
    measure: MeasureOptions,
    against: Against = None,
    coco_root: CocoRoot = None,
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Measure images that are there, against a reference."""
    from evalkit.commands.score import score as run

    _refuse_retired_seed(seed)
    run(samples, against, measure, coco_root=coco_root, json_file=json_file)


@app.command()
@measuring(flags={"batch_size": "--batch-size"})
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Two or more, each [NAME=]RUN, a folder, zip, tar or npz.")
    ],
    measure: MeasureOptions,
    against: OwnAgainst = None,
    coco_root: CocoRoot = None,
    html: Annotated[Path, typer.Option(help="The page to write.")] = Path("comparison.html"),
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Models by metrics with intervals, and the paired difference of each two."""
    from evalkit.commands.compare import compare as run

    _refuse_retired_seed(seed)
    run(
        runs, against, measure,
        coco_root=coco_root, html=html, json_file=json_file, command=_command_line(),
    )  # fmt: skip


@plan_app.command("fid")
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_A_PLAN)
def plan_fid(
    pilot: Annotated[str, typer.Argument(help="Samples of one model: a run, folder, zip, ...")],
    difference: Annotated[float, typer.Option(help="Difference of distances to be found.")],
    measure: MeasureOptions,
    second: Annotated[
        str | None, typer.Option(help="Samples of the other model on the same captions.")
    ] = None,
    against: OwnAgainst = None,
    power: Annotated[float, typer.Option(help="Probability wanted of finding it.")] = 0.8,
    coco_root: CocoRoot = None,
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Images needed to tell a difference of FID from chance, by a pilot."""
    from evalkit.commands.plan import plan_frechet as run

    _refuse_retired_seed(seed)
    run(
        [pilot] if second is None else [pilot, second], against, measure,
        difference=difference, power=power, coco_root=coco_root, json_file=json_file,
    )  # fmt: skip


@app.command()
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_STATISTICS)
def statistics(
    images: Annotated[str, typer.Argument(help="Data set, run, folder, zip, tar or npz.")],
    out: Annotated[Path, typer.Option(help="The .npz to write.")],
    measure: MeasureOptions,
    spatial: Annotated[
        bool, typer.Option("--spatial", help="With mu_s and sigma_s for sFID, as ADM has them.")
    ] = False,
    coco_root: CocoRoot = None,
) -> None:
    """Write mean and covariance of a set, for `--against` and for other tools."""
    from evalkit.commands.statistics import statistics as run

    run(images, out, measure, spatial=spatial, coco_root=coco_root)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all stored features.")] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of stored features; in the cache unless given.")
    ] = None,
) -> None:
    """Show the stored features, or clear them."""
    from evalkit.commands.cache import cache as run

    run(store, clear=clear)


@app.command()
def nll(
    model: Model,
    data: Annotated[str, typer.Option("--data", help="Name or folder of a data set.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Images to draw.")] = 100,
    steps: Annotated[
        int | None, typer.Option(help="Timesteps of the bound; all of the model's unless given.")
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    weights: Weights = None,
    json_file: JsonFile = None,
) -> None:
    """Bits per dimension of an unconditional diffusion model: a bound on -log2 p of real images."""
    from evalkit.commands.nll import NllOptions
    from evalkit.commands.nll import nll as run

    options = NllOptions(
        model=model,
        data=data,
        n=n,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        device=torch_device(device),
        weights=named_paths(weights or []),
    )
    run(options, json_file=json_file)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="A run folder that was measured.")],
) -> None:
    """Write the report of a measured run anew."""
    from evalkit.commands.report import report as run

    run(run_folder)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name (`evalkit list recipes`) or TOML file.")],
    out: Out = None,
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights to begin with, for a recipe that begins with some.")
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Even where there is a GPU.")] = False,
) -> None:
    """Train a network by a recipe, or resume it.

    Several processes: `torchrun --nproc-per-node N -m evalkit.cli train RECIPE`.
    """
    from evalkit.commands.train import train as run

    run(recipe, out=out, steps=steps, start=start, cpu=cpu)


@app.command()
def vocabulary(
    out: Annotated[Path, typer.Option(help="Folder of vocabulary.json and vocabulary.bpe.")],
    data: Annotated[str, typer.Option(help="shapes, or a captioned data set.")] = "shapes",
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Images of shapes whose captions are read.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=0, help="Most merges to learn.")] = None,
) -> None:
    """Learn a byte-pair vocabulary from captions; of shapes, the tiny models' own."""
    from evalkit.commands.vocabulary import vocabulary as run

    run(data, out, num_images=n, num_merges=size)


@data_app.command("shapes")
def data_shapes(
    out: Annotated[Path, typer.Option(help="Folder to fill, in COCO's format.")],
    train: Annotated[int, typer.Option(min=0, help="Training images.")] = 0,
    val: Annotated[int, typer.Option(min=0, help="Validation images.")] = 1_000,
    seed: Seed = 0,
) -> None:
    """Draw the captioned data set `shapes`."""
    from evalkit.commands.data import shapes

    shapes(out, train, val, seed)


@data_app.command("coco")
def data_coco(coco_root: CocoRoot = None) -> None:
    """Find MS-COCO val2014, or fetch it from the hub."""
    from evalkit.commands.data import coco

    coco(coco_root)


@weights_app.command("list")
def weights_list() -> None:
    """List published weights: where they are, whether they are cached, their hash."""
    from evalkit.commands.weights import show

    show()


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="See `evalkit weights list`.")],
) -> None:
    """Download published weights into the cache, or go on with a download that broke off."""
    from evalkit.commands.weights import fetch

    fetch(names)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="All that are cached, if none.")] = None,
) -> None:
    """Compare cached weights with the hash that was published, or that they had at first."""
    from evalkit.commands.weights import verify

    verify(names or [])


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.models,
) -> None:
    """List what there is."""
    from evalkit.commands.listing import show

    show(kind.value)


@app.command()
def doctor() -> None:
    """Tell what is installed, cached and reachable, and which device would be used."""
    from evalkit.commands.doctor import doctor as run

    run()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    n: Annotated[int, typer.Option(min=2, help="Images.")] = 300,
) -> None:
    """Sample the embedded GLIDE, measure it and report, offline in a few minutes."""
    from evalkit.commands.demo import demo as run

    run(out, n)


def main() -> None:
    """Run the command line; an expected fault is one line and exit code 2."""
    try:
        _mount_drawbench()
        app()
    except EvalkitError as error:
        typer.echo(f"evalkit: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("evalkit: stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from None


def _refuse_retired_seed(seed: int | None) -> None:
    """`--seed` of commands that only measure meant what is `--metric-seed` everywhere now."""
    if seed is not None:
        raise ConfigError(
            f"--seed {seed}: this command samples nothing; for the seed of subsets and draws use "
            f"--metric-seed {seed}"
        )


def _command_line() -> str:
    import shlex

    return shlex.join(["evalkit", *sys.argv[1:]])


@functools.cache
def _mount_drawbench() -> None:
    """Add `evalkit drawbench`, an application of its own, once: a program may call `main` often."""
    from drawbench.cli import app as drawbench_app
    from evalkit.commands import study_scores, suite

    suite.register(drawbench_app)
    study_scores.register(drawbench_app)
    app.add_typer(drawbench_app, name="drawbench")


if __name__ == "__main__":
    main()
