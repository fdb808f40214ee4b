"""What a user can choose about a measurement, and how the command line spells it.

Each field carries its flag and its help, so that every command that measures offers the same
options in the same words: `@measuring` turns a command's parameter `measure` into them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import check_level

Value = TypeVar("Value")


def _option(
    default: Value,
    flag: str,
    text: str,
    *,
    typed: Any = None,
    parse: Callable[[str], Any] | None = None,
    minimum: float | None = None,
) -> Value:
    """A field that is also an option.

    Args:
        default: Of the field.
        flag: On the command line.
        text: One line of help.
        typed: What the command line reads, where that isn't the field's own type.
        parse: Makes the field's value of what the command line read.
        minimum: Smallest number allowed.
    """
    more: Any = {} if minimum is None else {"min": minimum}
    option = typer.Option(flag, help=text, **more)
    field: Value = dataclasses.field(
        default=default, metadata={"option": option, "typed": typed, "parse": parse}
    )
    return field


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--neighbours wants whole numbers such as 3,5, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What a user can choose about a measurement."""

    metrics: tuple[str, ...] | None = _option(
        None,
        "--metrics",
        "Comma-separated, see `evalkit list metrics`; the Fréchet distance, CLIP score and, on "
        "shapes, composition unless given.",
        typed=str | None,
        parse=_names,
    )
    """Names of `evalkit list metrics`; None: the Fréchet distance, CLIP score where there are
    captions, composition where there are scenes."""
    features: str = _option(
        "inception",
        "--features",
        "inception (FID), dinov2, shapes-clip or an open_clip model (FD).",
    )
    inception_weights: Path | None = _option(  # noqa: RUF009 (makes a field)
        None, "--inception-weights", "File of Inception weights."
    )
    inception_layer: str = _option(
        "2048", "--inception-layer", "Layer of fid, kid and prdc: 64, 192, 768 or 2048."
    )
    resize: str = _option(
        "tf1", "--resize", "tf1, pytorch-fid, clean, legacy_pytorch or torchmetrics."
    )
    clip_model: str | None = _option(
        None,
        "--clip-model",
        "Scores image and caption; shapes-clip for shapes, else ViT-L/14.",
    )
    clip_variant: str = _option(
        "torchmetrics", "--clip-variant", "CLIP score as torchmetrics, hessel or raw."
    )
    clip_prefix: str | None = _option(
        None, "--clip-prefix", "Put before each caption; the variant's own unless given."
    )
    kid_subsets: int = _option(100, "--kid-subsets", "Random subsets of KID.", minimum=1)
    kid_subset_size: int = _option(1000, "--kid-subset-size", "Images in each, at most.", minimum=2)
    is_splits: int = _option(10, "--is-splits", "Parts of the Inception Score.", minimum=1)
    neighbours: tuple[int, ...] = _option(
        (3, 5),
        "--neighbours",
        "The k of precision, recall, density and coverage, such as 3,5.",
        typed=str,
        parse=_whole_numbers,
    )
    distractors: int = _option(
        99, "--distractors", "Wrong captions beside the right one in r-precision.", minimum=1
    )
    halvings: int = _option(8, "--halvings", "Random halvings behind fd_infinity.", minimum=1)
    level: float = _option(0.95, "--level", "Coverage wanted of the intervals.")
    crop: str | None = _option(None, "--crop", "Of the reference: none, center or squash.")
    size_px: int | None = _option(None, "--size", "Of the reference, in px.", minimum=1)
    filter: str = _option(
        "bicubic", "--filter", "Of resizing to that size: bicubic, lanczos, bilinear or box."
    )
    sample_crop: str = _option("none", "--sample-crop", "Of the samples: none, center or squash.")
    sample_size_px: int | None = _option(
        None, "--sample-size", "Of the samples, in px; as they are unless given.", minimum=1
    )
    batch_size: int = _option(
        32, "--feature-batch-size", "Images that a network takes at once.", minimum=1
    )
    workers: int | None = _option(
        None,
        "--workers",
        "Processes that decode; 0: threads of this one. Unless given, 0 on a CPU.",
        minimum=0,
    )
    precision: str = _option("float32", "--precision", "float32 or bf16.")
    compile: bool = _option(
        False, "--compile", "Compile the Inception network: pays from some ten thousand images on."
    )
    device: str = "cpu"
    """Each command has an option of its own for it."""
    seed: int = _option(0, "--metric-seed", "Of halvings, subsets and draws.", minimum=0)
    skip_bad: bool = _option(False, "--skip-bad", "Leave out images that can't be read.")
    store: Path | None = _option(  # noqa: RUF009 (makes a field)
        None, "--store", "Folder of stored features; in the cache unless given."
    )
    num_influential: int = _option(
        24, "--influential", "Images listed as pushing the distance up most.", minimum=0
    )

    def __post_init__(self) -> None:
        check_level(self.level)


Command = Callable[..., None]
_PREFIX = "measure_"
"""Keeps the options of a measurement apart from a command's own of the same name."""


def measuring(
    *, flags: Mapping[str, str] | None = None, without: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Give a command all options of a measurement in place of its parameter `measure`.

    Args:
        flags: Other flags than the fields' own, by field.
        without: Fields that the command fills in by itself.
    """
    chosen = {
        field.name: field
        for field in dataclasses.fields(MeasureOptions)
        if field.metadata and field.name not in without
    }
    parameters = [_parameter(field, (flags or {}).get(name)) for name, field in chosen.items()]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in signature.parameters.items()
            if name != "measure"
        ]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            fields = {name: _value(chosen[name], given.pop(_PREFIX + name)) for name in chosen}
            command(measure=MeasureOptions(**fields), **given)

        merged = [*own, *parameters]
        wrapped.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in merged}
        return wrapped

    return decorate


def _parameter(field: dataclasses.Field[Any], flag: str | None) -> inspect.Parameter:
    """The field as a parameter that typer reads."""
    read = field.metadata["typed"] or get_type_hints(MeasureOptions)[field.name]
    option = field.metadata["option"]
    if flag is not None:
        option = typer.Option(flag, help=option.help, min=option.min)
    return inspect.Parameter(
        _PREFIX + field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_shown_default(field),
        annotation=Annotated[read, option],
    )


def _shown_default(field: dataclasses.Field[Any]) -> Any:
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default))
    return field.default


def _value(field: dataclasses.Field[Any], given: Any) -> Any:
    parse = field.metadata["parse"]
    return parse(given) if parse and given is not None else given
