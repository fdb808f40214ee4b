"""The command line. A command parses, calls one function, prints and exits.

Nothing heavy is imported here: each command imports what it needs when it is called.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from evalkit.commands import panels
from evalkit.commands.panels import OptionsByRecord
from evalkit.core.errors import ConfigError, EvalkitError, IncompleteError, OutputError
from evalkit.core.interrupts import StoppableGroup, stopping_at_sigterm
from evalkit.core.memory import is_out_of_memory, out_of_memory
from evalkit.core.places import AnyPath, place
from evalkit.core.progress import log_as_json
from evalkit.options import (
    ExportOptions,
    MeasureOptions,
    RequestOptions,
    SamplingOptions,
    ServerOptions,
    SpreadOptions,
    TrackingOptions,
    TrainingOptions,
    exporting,
    measuring,
    requesting,
    sampling,
    serving,
    spreading,
    tracking,
    training,
)
from evalkit.options.devices import torch_device
from evalkit.options.measuring import measured_elsewhere
from evalkit.options.parsing import named_paths

app = typer.Typer(
    name="evalkit",
    cls=StoppableGroup,
    help="Which text-to-image model is better, by how much, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Render or download a data set.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel=panels.DATA)
plan_app = typer.Typer(help="Plan how many images a comparison needs.", no_args_is_help=True)
app.add_typer(plan_app, name="plan", rich_help_panel=panels.EVALUATE)
protocols_app = typer.Typer(
    help="List, explain and compare measurement protocols.", no_args_is_help=True
)
app.add_typer(protocols_app, name="protocols", rich_help_panel=panels.ABOUT)
references_app = typer.Typer(
    help="List and keep published reference statistics.", no_args_is_help=True
)
app.add_typer(references_app, name="references", rich_help_panel=panels.DATA)
runs_app = typer.Typer(help="List, verify, merge and copy run folders.", no_args_is_help=True)
app.add_typer(runs_app, name="runs", rich_help_panel=panels.GENERATE)
weights_app = typer.Typer(help="Download and verify published weights.", no_args_is_help=True)
app.add_typer(weights_app, name="weights", rich_help_panel=panels.DATA)

Model = Annotated[
    str, typer.Option("--model", "-m", help="MODEL[:PRESET] or a place; see `evalkit list models`.")
]
CocoRoot = Annotated[Path | None, typer.Option(help="COCO folder with val2014/ and annotations/.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random draws and the noise.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:N.")]
Out = Annotated[
    AnyPath | None,
    typer.Option(
        parser=place,
        metavar="FOLDER|URL",
        help="Run folder, or its URL. [default: under runs/, the same for the same settings]",
    ),
]
RunPlace = Annotated[
    AnyPath, typer.Argument(parser=place, metavar="RUN", help="Run folder, or its URL.")
]
Weights = Annotated[list[str] | None, typer.Option(help="Local weights, as NAME=PATH; repeatable.")]
RetiredSeed = Annotated[int | None, typer.Option("--seed", hidden=True)]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Reference: data set, images or statistics file. [default: the protocol's data set]",
    ),
]
OwnAgainst = Annotated[
    str | None,
    typer.Option("--against", help="Reference. [default: the data set of the runs]"),
]
PilotAgainst = Annotated[
    str | None,
    typer.Option("--against", help="Reference. [default: the data set of the pilot]"),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the records to this file.")
]

Baseline = Annotated[
    str | None, typer.Option(help="Run to compare with. [default: the file's]", show_default=False)
]
GateFile = Annotated[
    Path | None, typer.Option("--gate", help="TOML file of a gate, in place of these options.")
]
MarginOption = Annotated[
    list[str] | None,
    typer.Option("--margin", help="Not worse by METRIC=MARGIN, in its unit; repeatable."),
]
EquivalentOption = Annotated[
    list[str] | None,
    typer.Option("--equivalent", help="Neither worse nor better by METRIC=MARGIN; repeatable."),
]
SuperiorOption = Annotated[
    list[str] | None,
    typer.Option("--superior", help="Better: METRIC, or by at least METRIC=MARGIN; repeatable."),
]
Alpha = Annotated[
    float | None, typer.Option(help="One-sided level of each requirement. [default: 0.05]")
]

_NOT_OF_A_GATE = (
    "metrics", "level", "skip_bad", "sample_exclude", "allow_short", "num_influential",
)  # fmt: skip
_OF_OTHER_METRICS = (
    "clip_model", "clip_variant", "clip_prefix", "kid_subsets", "kid_subset_size", "is_splits",
    "neighbours", "distractors", "metrics", "num_influential", "lpips_weights",
)  # fmt: skip
_NOT_OF_A_PLAN = _OF_OTHER_METRICS
_NOT_OF_STATISTICS = (
    *_NOT_OF_A_PLAN, "level", "sample_crop", "sample_size_px", "sample_saved", "sample_reencode",
    "sample_exclude", "reference_images", "allow_short", "seed",
)  # fmt: skip


_NOT_WHILE_MEASURING = ("shard", "workers")
"""Measuring needs all images at once; and `--workers` is of decoding, or of the cluster."""


class LogFormat(StrEnum):
    """How progress and events are printed."""

    text = "text"
    json = "json"


def _choose_log_format(chosen: LogFormat) -> LogFormat:
    log_as_json(chosen == LogFormat.json)
    return chosen


Log = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        callback=_choose_log_format,
        help="Progress and events as text, or as a line of JSON each.",
    ),
]


class Kind(StrEnum):
    """The tables of `evalkit list`."""

    models = "models"
    datasets = "datasets"
    protocols = "protocols"
    metrics = "metrics"
    recipes = "recipes"


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@spreading(without=_NOT_WHILE_MEASURING)
@exporting()
@tracking()
@measuring(without=("device",))
@serving()
@sampling()
@requesting(without=("protocol", "prompt", "prompts", "allow_short"))
def fid(
    model: Model,
    asked: RequestOptions,
    sampling: SamplingOptions,
    server: ServerOptions,
    measure: MeasureOptions,
    spread: SpreadOptions,
    exports: ExportOptions,
    tracking: TrackingOptions,
    out: Out = None,
    json_file: JsonFile = None,
) -> None:
    """Generate or resume a run and report FID, CLIP score and more."""
    from evalkit.commands.asking import generation_options, with_cap
    from evalkit.commands.fid import fid as run

    if asked.labels and not asked.data:
        raise ConfigError("--labels needs --data here, the images that it is measured against.")
    asked = replace(asked, protocol=measure.protocol, allow_short=measure.allow_short)
    sampling = replace(sampling, access=with_cap(model, server))
    measure = measured_elsewhere(replace(measure, device=sampling.device), spread)
    options = generation_options(model, asked, sampling, out, measure.spread)
    run(
        options, measure, tracking,
        json_file=json_file, exports=exports.files, command=_command_line(),
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.GENERATE)
@spreading()
@serving()
@sampling()
@requesting()
def generate(
    model: Model,
    asked: RequestOptions,
    sampling: SamplingOptions,
    server: ServerOptions,
    spread: SpreadOptions,
    out: Out = None,
) -> None:
    """Generate images into a run folder, or resume one."""
    from evalkit.commands.asking import generation_options, with_cap
    from evalkit.commands.fid import generate as run

    sampling = replace(sampling, access=with_cap(model, server))
    run(generation_options(model, asked, sampling, out, spread))


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@spreading(without=_NOT_WHILE_MEASURING)
@exporting()
@measuring(flags={"batch_size": "--batch-size"})
def score(
    samples: Annotated[
        str, typer.Argument(help="Run, folder, zip, tar, npz, parquet or folder:PATH?KEY=VALUE.")
    ],
    measure: MeasureOptions,
    spread: SpreadOptions,
    exports: ExportOptions,
    against: Against = None,
    coco_root: CocoRoot = None,
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Score existing images, against a reference where a metric needs one."""
    from evalkit.commands.score import score as run

    _refuse_retired_seed(seed)
    measure = measured_elsewhere(measure, spread)
    run(samples, against, measure, coco_root=coco_root, json_file=json_file)
    run(
        samples, against, measure, coco_root=coco_root,
        json_file=json_file, exports=exports.files, command=_command_line(),
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@tracking()
@measuring(flags={"batch_size": "--batch-size"})
def watch(
    folder: Annotated[
        Path, typer.Argument(help="Folder with a subfolder of samples, or a run, per checkpoint.")
    ],
    measure: MeasureOptions,
    tracking: TrackingOptions,
    against: Against = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for watch.csv and watch.json. [default: the watched folder]"),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Measure what is finished now, and stop.")
    ] = False,
    until: Annotated[
        int | None, typer.Option(min=1, help="Stop when N checkpoints are measured.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks at the folder.")
    ] = 10.0,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds without a change after which one is finished.")
    ] = 60.0,
    marker: Annotated[
        str, typer.Option(help="Name of the file that marks a finished subfolder.")
    ] = "DONE",
    coco_root: CocoRoot = None,
) -> None:
    """Measure each checkpoint's samples as training writes them."""
    from evalkit.commands.watch import WatchOptions
    from evalkit.commands.watch import watch as run

    how = WatchOptions(once=once, until=until, every_s=every, settle_s=settle, marker=marker)
    run(
        folder, against, measure, how,
        out=out, coco_root=coco_root, tracking=tracking, command=_command_line(),
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@exporting()
@measuring(flags={"batch_size": "--batch-size"})
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Two or more [NAME=]PATH: run, folder, zip, tar or npz."),
    ],
    measure: MeasureOptions,
    exports: ExportOptions,
    against: OwnAgainst = None,
    coco_root: CocoRoot = None,
    html: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("comparison.html"),
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Compare models by metrics and by paired differences."""
    from evalkit.commands.compare import compare as run

    _refuse_retired_seed(seed)
    run(
        runs, against, measure,
        coco_root=coco_root, html=html, json_file=json_file, exports=exports.files,
        command=_command_line(),
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@exporting()
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_A_GATE)
def gate(
    candidate: Annotated[str, typer.Argument(help="Run that must stay within the margins.")],
    measure: MeasureOptions,
    exports: ExportOptions,
    baseline: Baseline = None,
    file: GateFile = None,
    margin: MarginOption = None,
    equivalent: EquivalentOption = None,
    superior: SuperiorOption = None,
    superior_any: Annotated[
        list[str] | None,
        typer.Option(help="Better in one or more of these METRICs, corrected; repeatable."),
    ] = None,
    bound: Annotated[
        list[str] | None,
        typer.Option(help="Value that METRIC=NUMBER must reach, such as psnr=30; repeatable."),
    ] = None,
    alpha: Alpha = None,
    against: OwnAgainst = None,
    coco_root: CocoRoot = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the result to this file.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write a Markdown summary to this file.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
) -> None:
    """Decide whether a candidate is as good as a baseline, with a stated risk.

    Exit codes: 0 passed, 1 failed, 2 bad input, 3 not all measured, 4 undecided, 70 crashed.
    """
    from evalkit.commands.gate import crash_code

    with crash_code():
        from evalkit.commands.gate import gate as run
        from evalkit.commands.gating import chosen_gate
        from evalkit.gate.outputs import GateFiles

        definition = chosen_gate(
            file, baseline=baseline, against=against, alpha=alpha, margin=margin,
            equivalent=equivalent, superior=superior, superior_any=superior_any, bound=bound,
        )  # fmt: skip
        files = GateFiles(json=json_file, markdown=markdown, junit=junit)
        result = run(
            candidate, definition, measure,
            files=files, coco_root=coco_root, exports=exports.files, command=_command_line(),
        )  # fmt: skip
    raise typer.Exit(result.exit_code)


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@exporting()
@spreading(without=_NOT_WHILE_MEASURING)
@measuring(flags={"batch_size": "--batch-size"}, without=("allow_short",))
def matrix(
    samples: Annotated[str, typer.Argument(help="Run folder, image folder, zip, tar or npz.")],
    measure: MeasureOptions,
    spread: SpreadOptions,
    exports: ExportOptions,
    against: OwnAgainst = None,
    protocols: Annotated[
        str | None,
        typer.Option(help="Comma-separated protocols. [default: all on the reference's data set]"),
    ] = None,
    base: Annotated[str, typer.Option(help="Protocol that is varied. [default: the first]")] = "",
    vary: Annotated[
        str | None,
        typer.Option(help="Comma-separated variations of the base, or none. [default: all]"),
    ] = None,
    coco_root: CocoRoot = None,
    html: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("matrix.html"),
    json_file: JsonFile = None,
) -> None:
    """Measure one image set under every protocol that it can serve."""
    from evalkit.commands.matrix import MatrixOptions
    from evalkit.commands.matrix import matrix as run
    from evalkit.options.parsing import names

    more = {} if vary is None else {"vary": () if vary == "none" else names(vary)}
    chosen = MatrixOptions(protocols=names(protocols or ""), base=base, **more)
    run(
        samples, against, measured_elsewhere(measure, spread), chosen,
        coco_root=coco_root, html=html, json_file=json_file, exports=exports.files,
        command=_command_line(),
    )  # fmt: skip


@app.command(rich_help_panel=panels.EVALUATE)
def variance(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Measured runs of one model, grouped by their weights."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Runs of one training, as NAME=RUN,RUN; repeatable."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Comma-separated names of records. [default: all in common]")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    json_file: JsonFile = None,
) -> None:
    """Tell what retraining changes from what resampling changes."""
    from evalkit.commands.variance import variance as run
    from evalkit.options.parsing import names

    run(
        runs or [], group or [],
        metrics=names(metrics or ""), level=level, json_file=json_file,
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@spreading(without=_NOT_WHILE_MEASURING)
@exporting()
@tracking()
@measuring(without=("device",))
@sampling(without=("guidance", "steps", "sampler"))
@requesting(without=("protocol", "prompt", "prompts", "labels", "allow_short"))
def sweep(
    model: Model,
    asked: RequestOptions,
    sampling: SamplingOptions,
    measure: MeasureOptions,
    spread: SpreadOptions,
    exports: ExportOptions,
    tracking: TrackingOptions,
    guidance: Annotated[
        str | None,
        typer.Option(help="Scales, such as 1,1.5,2, sr1=1,8, or a published grid such as imagen."),
    ] = None,
    steps: Annotated[str | None, typer.Option(help="Steps, such as 10,25,50.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Samplers, such as ddim,heun.")] = None,
    out: Annotated[
        AnyPath, typer.Option(parser=place, metavar="FOLDER|URL", help="Folder of the sweep.")
    ] = Path("runs/sweep"),
    yes: Annotated[bool, typer.Option("--yes", help="Start without a question.")] = False,
) -> None:
    """Generate and measure a model over guidance scales, steps or samplers."""
    from evalkit.analyses.sweep import Axis
    from evalkit.commands.asking import generation_options
    from evalkit.commands.sweep import sweep as run

    asked = replace(asked, protocol=measure.protocol, allow_short=measure.allow_short)
    measure = measured_elsewhere(replace(measure, device=sampling.device), spread)
    options = generation_options(model, asked, sampling, out, measure.spread)
    axes = [
        Axis.of("guidance", guidance), Axis.of("steps", steps), Axis.of("sampler", sampler),
    ]  # fmt: skip
    run(
        options, measure, axes,
        out=out, yes=yes, exports=exports.files, tracking=tracking, command=_command_line(),
    )  # fmt: skip


@app.command(cls=OptionsByRecord, rich_help_panel=panels.EVALUATE)
@measuring(flags={"batch_size": "--batch-size"})
def preflight(
    samples: Annotated[str, typer.Argument(help="Run folder, image folder, zip, tar or npz.")],
    measure: MeasureOptions,
    against: Against = None,
    coco_root: CocoRoot = None,
) -> None:
    """Look for what spoils a number before measuring: floor, black images, duplicates, captions."""
    from evalkit.commands.preflight import preflight as run

    run(samples, against, measure, coco_root=coco_root)


@app.command(rich_help_panel=panels.EVALUATE)
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="Name of a known answer. [default: list them]")
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(help="File of Inception weights. [default: from the cache, else downloaded]"),
    ] = None,
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Check the tool against published values."""
    from evalkit.commands.reproduce import reproduce as run
    from evalkit.commands.reproduce import show

    if name is None:
        show()
        return
    options = MeasureOptions(inception_weights=inception_weights, device=torch_device(device))
    run(name, options, out=out)


@plan_app.command("fid", cls=OptionsByRecord)
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_A_PLAN)
def plan_fid(
    pilot: Annotated[
        str, typer.Argument(help="One model's samples: run, folder, zip, tar or npz.")
    ],
    difference: Annotated[float, typer.Option(help="Smallest difference in FID to detect.")],
    measure: MeasureOptions,
    second: Annotated[
        str | None, typer.Option(help="Samples of a second model for the same captions.")
    ] = None,
    against: PilotAgainst = None,
    power: Annotated[float, typer.Option(help="Power: the probability of detecting it.")] = 0.8,
    coco_root: CocoRoot = None,
    json_file: JsonFile = None,
    seed: RetiredSeed = None,
) -> None:
    """Estimate from a pilot how many images are needed to detect a difference in FID."""
    from evalkit.commands.plan import plan_frechet as run

    _refuse_retired_seed(seed)
    run(
        [pilot] if second is None else [pilot, second], against, measure,
        difference=difference, power=power, coco_root=coco_root, json_file=json_file,
    )  # fmt: skip


@plan_app.command("gate", cls=OptionsByRecord)
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_A_GATE)
def plan_gate(
    measure: MeasureOptions,
    candidate: Annotated[
        str | None, typer.Argument(help="Pilot run of the candidate; without one, give --sd.")
    ] = None,
    baseline: Baseline = None,
    file: GateFile = None,
    margin: MarginOption = None,
    equivalent: EquivalentOption = None,
    superior: SuperiorOption = None,
    alpha: Alpha = None,
    sd: Annotated[
        list[str] | None,
        typer.Option(help="Deviation of the paired difference per image, METRIC=NUMBER."),
    ] = None,
    difference: Annotated[
        list[str] | None,
        typer.Option(help="True difference to plan for, METRIC=NUMBER. [default: 0]"),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", min=2, help="Images per run whose power is shown too.")
    ] = None,
    power: Annotated[
        float, typer.Option(help="Power: the probability that the gate passes.")
    ] = 0.8,
    against: PilotAgainst = None,
    coco_root: CocoRoot = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the plan to this file.")
    ] = None,
) -> None:
    """Estimate how many images a gate needs, and its power, from two pilot runs."""
    from evalkit.commands.gating import chosen_gate
    from evalkit.commands.plan_gate import PlanRequest
    from evalkit.commands.plan_gate import plan_gate as run
    from evalkit.gate.definition import parse_pairs

    definition = chosen_gate(
        file, baseline=baseline, against=against, alpha=alpha, margin=margin,
        equivalent=equivalent, superior=superior,
    )  # fmt: skip
    request = PlanRequest(
        power=power, n=n,
        difference=parse_pairs(difference or (), "--difference"),
        deviation=parse_pairs(sd or (), "--sd"),
    )  # fmt: skip
    run(candidate, definition, measure, request, coco_root=coco_root, json_file=json_file)


@app.command(cls=OptionsByRecord, rich_help_panel=panels.DATA)
@measuring(flags={"batch_size": "--batch-size"}, without=_NOT_OF_STATISTICS)
def statistics(
    images: Annotated[str, typer.Argument(help="Data set, run, folder, zip, tar or npz.")],
    out: Annotated[Path, typer.Option(help="File to write, .npz.")],
    measure: MeasureOptions,
    spatial: Annotated[
        bool, typer.Option("--spatial", help="Add mu_s and sigma_s for sFID, as in ADM's files.")
    ] = False,
    coco_root: CocoRoot = None,
) -> None:
    """Write mean and covariance of image features, for `--against`."""
    from evalkit.commands.statistics import statistics as run

    run(images, out, measure, spatial=spatial, coco_root=coco_root)


@app.command(rich_help_panel=panels.DATA)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all stored features.")] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of stored features. [default: in the cache]")
    ] = None,
) -> None:
    """Show or delete stored features."""
    from evalkit.commands.cache import cache as run

    run(store, clear=clear)


@app.command(rich_help_panel=panels.EVALUATE)
def nll(
    model: Model,
    data: Annotated[str, typer.Option("--data", help="Name or folder of a data set.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Number of images.")] = 100,
    steps: Annotated[
        int | None, typer.Option(help="Timesteps used for the bound. [default: all of the model's]")
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    weights: Weights = None,
    json_file: JsonFile = None,
) -> None:
    """Compute an upper bound on an unconditional model's bits per dimension."""
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


@app.command(rich_help_panel=panels.EVALUATE)
def report(
    run_folder: Annotated[
        AnyPath, typer.Argument(parser=place, metavar="RUN", help="A run folder that was measured.")
    ],
) -> None:
    """Rewrite the report of a measured run."""
    from evalkit.commands.report import report as run

    run(run_folder)


@app.command(cls=OptionsByRecord, rich_help_panel=panels.TRAIN)
@training()
@tracking()
def train(
    training: TrainingOptions,
    recipe: Annotated[str, typer.Argument(help="Name (`evalkit list recipes`) or TOML file.")],
    tracking: TrackingOptions,
    out: Out = None,
    steps: Annotated[
        int | None, typer.Option(help="Number of steps. [default: the recipe's]")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", "--start", help="Fine-tune: a model such as glide:tiny, or a file of weights."
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use the CPU even if there is a GPU.")] = False,
) -> None:
    """Train a network from a recipe, on shapes or on own images, or resume training.

    Several processes: `torchrun --nproc-per-node N -m evalkit.cli train RECIPE`.
    """
    from evalkit.commands.train import train as run

    run(
        recipe,
        out=out,
        steps=steps,
        start=start,
        cpu=cpu,
        options=training,
        tracking=tracking,
    )


@app.command(rich_help_panel=panels.TRAIN)
def vocabulary(
    out: Annotated[Path, typer.Option(help="Folder for vocabulary.json and vocabulary.bpe.")],
    data: Annotated[str, typer.Option(help="Name or folder of a captioned data set.")] = "shapes",
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Number of shapes images whose captions are read."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=0, help="Maximum number of merges.")] = None,
) -> None:
    """Train a byte-pair vocabulary from captions."""
    from evalkit.commands.vocabulary import vocabulary as run

    run(data, out, num_images=n, num_merges=size)


@data_app.command("shapes")
def data_shapes(
    out: Annotated[Path, typer.Option(help="Folder to write, in COCO's format.")],
    train: Annotated[int, typer.Option(min=0, help="Number of training images.")] = 0,
    val: Annotated[int, typer.Option(min=0, help="Number of validation images.")] = 1_000,
    seed: Seed = 0,
) -> None:
    """Draw the captioned data set `shapes`."""
    from evalkit.commands.data import shapes

    shapes(out, train, val, seed)


@data_app.command("coco")
def data_coco(
    coco_root: CocoRoot = None,
    protocol: Annotated[
        str, typer.Option(help="Protocol whose captions are drawn: a name or a TOML file.")
    ] = "",
    captions_out: Annotated[
        Path | None, typer.Option(help="File for the drawn captions: .tsv, .csv, .jsonl or .txt.")
    ] = None,
    captions_list: Annotated[
        Path | None, typer.Option(help="File of the protocol's published list, to keep.")
    ] = None,
    archives: Annotated[
        bool, typer.Option("--archives", help="Download the official archives, or resume.")
    ] = False,
) -> None:
    """Find MS-COCO val2014, or download it; draw a protocol's captions."""
    from evalkit.commands.data import coco

    coco(
        coco_root,
        protocol=protocol,
        captions_out=captions_out,
        captions_list=captions_list,
        archives=archives,
    )


@protocols_app.command("list")
def protocols_list() -> None:
    """List the protocols, and what is known but can't be run exactly."""
    from evalkit.commands.protocols import list_protocols

    list_protocols()


@protocols_app.command("show")
def protocols_show(
    name: Annotated[str, typer.Argument(help="Name or TOML file of a protocol.")],
) -> None:
    """Show every value of a protocol, and where it is stated."""
    from evalkit.commands.protocols import show_protocol

    show_protocol(name)


@protocols_app.command("diff")
def protocols_diff(
    first: Annotated[str, typer.Argument(help="Name or TOML file of a protocol.")],
    second: Annotated[str, typer.Argument(help="Name or TOML file of another.")],
) -> None:
    """Show the values in which two protocols differ."""
    from evalkit.commands.protocols import diff_protocols

    diff_protocols(first, second)


@references_app.command("list")
def references_list() -> None:
    """List published statistics: where each is, and whether it is cached."""
    from evalkit.commands.references import show

    show()


@references_app.command("keep")
def references_keep(
    name: Annotated[str, typer.Argument(help="See `evalkit references list`.")],
    file: Annotated[Path, typer.Argument(help="The downloaded file.")],
) -> None:
    """Check a published file, copy it into the cache, and pin its hash."""
    from evalkit.commands.references import keep

    keep(name, file)


@runs_app.command("list")
def runs_list(
    root: Annotated[
        AnyPath, typer.Argument(parser=place, metavar="FOLDER", help="Folder of runs, or its URL.")
    ] = Path("runs"),
    log_format: Log = LogFormat.text,
) -> None:
    """List runs: how many images each has, and of how many."""
    from evalkit.commands.run_folders import list_runs

    list_runs(root, as_json=log_format == LogFormat.json)


@runs_app.command("show")
def runs_show(run: RunPlace, log_format: Log = LogFormat.text) -> None:
    """Show what a run is, how far it is, and how fast it was."""
    from evalkit.commands.run_folders import show
    from evalkit.core.run import RunFolder

    show(RunFolder.read(run), as_json=log_format == LogFormat.json)


@runs_app.command("verify")
def runs_verify(run: RunPlace, log_format: Log = LogFormat.text) -> None:
    """Read every row and image, and say what is missing or damaged."""
    from evalkit.commands.run_folders import verify
    from evalkit.core.run import RunFolder

    verify(RunFolder.read(run), as_json=log_format == LogFormat.json)


@runs_app.command("merge")
def runs_merge(run: RunPlace, log_format: Log = LogFormat.text) -> None:
    """Turn the parts that several processes wrote into one manifest."""
    from evalkit.commands.run_folders import merge
    from evalkit.core.run import RunFolder

    del log_format  # its callback took it
    merge(RunFolder.read(run))


@runs_app.command("rm")
def runs_rm(
    run: RunPlace,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False,
) -> None:
    """Delete a run and all its images."""
    from evalkit.commands.run_folders import remove_run
    from evalkit.core.run import RunFolder

    remove_run(RunFolder.read(run), yes=yes)


@runs_app.command("export")
def runs_export(
    run: RunPlace,
    out: Annotated[Path, typer.Option(help="New folder, .zip or .tar.")],
    log_format: Log = LogFormat.text,
) -> None:
    """Copy a run's images, with their captions, into a folder or an archive."""
    from evalkit.commands.run_folders import export
    from evalkit.core.run import RunFolder

    del log_format
    export(RunFolder.read(run), out)


@runs_app.command("import")
def runs_import(
    images: Annotated[
        str, typer.Argument(help="Folder, archive, table or parquet of images, or datasets:NAME.")
    ],
    out: Out = None,
    layout: Annotated[
        str, typer.Option(help="Layout, such as geneval. [default: recognised]", show_default=False)
    ] = "",
    captions: Annotated[
        str, typer.Option(help="Table of captions: jsonl, json, csv or tsv.", show_default=False)
    ] = "",
    image: Annotated[str, typer.Option(help="Column of images.", show_default=False)] = "",
    caption: Annotated[str, typer.Option(help="Column of captions.", show_default=False)] = "",
    id_: Annotated[str, typer.Option("--id", help="Column of ids.", show_default=False)] = "",
    category: Annotated[str, typer.Option(help="Column of categories.", show_default=False)] = "",
    name: Annotated[str, typer.Option(help="The model's name.", show_default=False)] = "",
) -> None:
    """Make a run of images that something else made, with their captions."""
    from evalkit.commands.runs import import_run
    from evalkit.layouts.importing import named_place

    place = named_place(
        images, layout=layout, captions=captions, image=image, caption=caption, id=id_,
        category=category, name=name,
    )  # fmt: skip
    import_run(place, out)


@weights_app.command("list")
def weights_list() -> None:
    """List published weights: address, hash, and whether they are cached."""
    from evalkit.commands.weights import show

    show()


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="See `evalkit weights list`.")],
) -> None:
    """Download published weights into the cache, or resume a download."""
    from evalkit.commands.weights import fetch

    fetch(names)


@weights_app.command("verify")
def weights_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names. [default: all cached]")] = None,
) -> None:
    """Compare cached weights with their published hash, or with the one recorded at first use."""
    from evalkit.commands.weights import verify

    verify(names or [])


@app.command("list", rich_help_panel=panels.ABOUT)
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.models,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """List models, data sets, protocols, metrics or recipes."""
    from evalkit.commands.listing import show

    show(kind.value, as_json=as_json)


@app.command(rich_help_panel=panels.ABOUT)
def doctor() -> None:
    """Show what is installed, cached and reachable."""
    from evalkit.commands.doctor import doctor as run

    run()


@app.command(rich_help_panel=panels.GENERATE)
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    n: Annotated[int, typer.Option(min=2, help="Number of images.")] = 300,
) -> None:
    """Sample, measure and report the embedded GLIDE, offline."""
    from evalkit.commands.demo import demo as run

    run(out, n)


def main() -> None:
    """Run the command line.

    Exit codes: 0; 2 after an `EvalkitError`, which is printed as one line; 3 after an
    `IncompleteError`; 130 and 143 where a signal stopped it. Any other exception keeps its
    traceback.
    """
    _write_any_text()
    try:
        with stopping_at_sigterm():
            _mount_drawbench()
            app()
    except EvalkitError as error:
        _fail(error, 3 if isinstance(error, IncompleteError) else 2)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _fail(_unprintable(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _fail(out_of_memory(error), 2)
    finally:
        _flush()


def _fail(error: EvalkitError, code: int) -> NoReturn:
    typer.echo(f"evalkit: {error}", err=True)
    raise SystemExit(code) from None


def _write_any_text() -> None:
    """Print what the terminal's encoding lacks, such as half of a surrogate pair, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write what is left to print; an output that is full is an error, a closed pipe is not."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (flushed again at exit)
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        _fail(_unprintable(error), 2)


def _unprintable(error: OSError) -> OutputError:
    return OutputError(f"The output can't be printed ({error.strerror}).")


def _refuse_retired_seed(seed: int | None) -> None:
    """Refuse `--seed` where nothing is sampled; the option is `--metric-seed` now."""
    if seed is not None:
        raise ConfigError(
            f"--seed {seed}: this command samples nothing. The seed of random subsets and draws is "
            f"--metric-seed {seed}."
        )


def _command_line() -> str:
    import shlex

    return shlex.join(["evalkit", *sys.argv[1:]])


@functools.cache
def _mount_drawbench() -> None:
    """Add `evalkit drawbench`, an app of its own, only once: a program may call `main` often."""
    from drawbench.cli import app as drawbench_app
    from evalkit.commands import study_scores, suite

    suite.register(drawbench_app)
    study_scores.register(drawbench_app)
    app.add_typer(drawbench_app, name="drawbench", rich_help_panel=panels.STUDY)


if __name__ == "__main__":
    main()
