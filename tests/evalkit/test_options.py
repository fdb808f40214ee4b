"""Every option reaches what it is about, from every command that offers it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import typer
from click.testing import CliRunner
from typer.main import get_command

from evalkit import cli
from evalkit.core.errors import ConfigError
from evalkit.options import (
    MeasureOptions,
    RequestOptions,
    SamplingOptions,
    measuring,
    requesting,
    sampling,
    tracking,
)
from evalkit.options.offering import Offer

OFFERS: list[Offer[Any]] = [measuring, sampling, requesting, tracking]


def flags_of(record: type[Any]) -> set[str]:
    return {
        field.metadata["option"].default for field in dataclasses.fields(record) if field.metadata
    }


def flags_offered(command: str) -> set[str]:
    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    return {flag for parameter in commands[command].params for flag in parameter.opts}


@pytest.mark.parametrize("command", ["fid", "score", "compare"])
def test_commands_that_measure_offer_all_of_it(command: str) -> None:
    missing = flags_of(MeasureOptions) - flags_offered(command)
    # It has another name where a command samples images with an option of that name.
    assert missing <= {"--feature-batch-size"}
    assert {"--batch-size", "--metric-seed", "--protocol"} <= flags_offered(command)


@pytest.mark.parametrize("command", ["fid", "generate"])
def test_commands_that_sample_offer_all_of_it(command: str) -> None:
    assert flags_of(SamplingOptions) <= flags_offered(command)


def test_only_generate_takes_prompts() -> None:
    own = {"--prompt", "--prompts"}
    assert flags_of(RequestOptions) <= flags_offered("generate")
    assert flags_of(RequestOptions) - flags_offered("fid") == own


@pytest.mark.parametrize("offer", OFFERS, ids=lambda offer: offer.parameter)
def test_no_flag_is_offered_twice(offer: Offer[Any]) -> None:
    flags = [
        field.metadata["option"].default
        for field in dataclasses.fields(offer.record)
        if field.metadata
    ]
    assert len(flags) == len(set(flags))


def typed_into(offer: Offer[Any], words: list[str], **more: Any) -> Any:
    """What a command that is offered the record receives."""
    found: list[Any] = []
    app = typer.Typer()

    def command(name: str = "x", **given: Any) -> None:
        found.append(given[offer.parameter])

    # The decorator replaces the parameter by its name.
    source = f"def command({offer.parameter}, name: str = 'x'): found.append({offer.parameter})"
    scope: dict[str, Any] = {"found": found}
    exec(source, scope)
    app.command()(offer(**more)(scope["command"]))
    outcome = CliRunner().invoke(get_command(app), words)
    assert outcome.exit_code == 0, outcome.output
    return found[0]


def test_what_is_typed_about_a_measurement_arrives() -> None:
    words = ["--metrics", "fid, kid", "--neighbours", "4,6", "--skip-bad", "--size", "64"]
    found = typed_into(measuring, words)
    assert found == MeasureOptions(
        metrics=("fid", "kid"), neighbours=(4, 6), skip_bad=True, size_px=64
    )
    assert found.typed == {"metrics", "size_px"}
    assert typed_into(measuring, []) == MeasureOptions()


def test_what_is_typed_about_sampling_arrives() -> None:
    words = ["--set", "a=1", "--set", "b=2", "--weights", "x=y.pt", "--seed", "3", "--bf16"]
    found = typed_into(sampling, [*words, "--device", "cpu"])
    assert found.set_options == ("a=1", "b=2")
    assert found.weights["x"].name == "y.pt"
    assert (found.seed, found.bf16, found.device) == (3, True, "cpu")
    assert "seed" in found.typed
    assert typed_into(sampling, []) == SamplingOptions()
    assert "seed" not in typed_into(sampling, []).typed


def test_what_is_asked_for_arrives() -> None:
    found = typed_into(requesting, ["--prompt", "a", "--prompt", "b", "--labels", "3,7"])
    assert found == RequestOptions(prompt=("a", "b"), labels=(3, 7))


def test_a_default_that_is_typed_counts_as_given() -> None:
    assert typed_into(measuring, ["--crop", "none"]).is_given("crop")
    assert not typed_into(measuring, []).is_given("crop")
    assert MeasureOptions(crop="center").is_given("crop")


def test_a_command_can_name_a_flag_otherwise_and_leave_one_out() -> None:
    words = ["--batch-size", "5"]
    found = typed_into(
        measuring, words, flags={"batch_size": "--batch-size"}, without=("distractors",)
    )
    assert found.batch_size == 5


@pytest.mark.parametrize("command", ["score a --against b", "compare a b", "plan fid a"])
def test_the_seed_that_meant_the_metrics_names_its_successor(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command.split(), "--seed", "3"]
    if "plan" in command:
        words += ["--difference", "1"]
    with pytest.raises(ConfigError, match="--metric-seed 3"):
        cli.app(words, standalone_mode=False)


def test_neighbours_that_are_no_numbers_are_told() -> None:
    with pytest.raises(
        ConfigError, match="--neighbours expects whole numbers such as 3,5, got 'a'"
    ):
        cli.app(["score", "a", "--against", "b", "--neighbours", "a"], standalone_mode=False)
