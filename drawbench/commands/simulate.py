"""`evalkit drawbench simulate`: simulate votes, to try out an analysis before a study is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drawbench.errors import StudyError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help="CSV of votes to write.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=STRENGTH, in standard deviations of a vote; give it at least twice. "
            "[default: model A=0.2, model B=0]"
        ),
    ] = None,
    raters: Annotated[int, typer.Option(min=1, help="Number of raters per category.")] = 25,
    rater_sd: Annotated[
        float, typer.Option(min=0, help="Standard deviation between raters.")
    ] = 0.3,
    prompt_sd: Annotated[
        float, typer.Option(min=0, help="Standard deviation between prompts.")
    ] = 0.5,
    ties: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of ties between equal models.")
    ] = 0.2,
    side_bias: Annotated[float, typer.Option(help="Lead of the model on the left.")] = 0.0,
    lazy: Annotated[float, typer.Option(min=0, max=1, help="Share of inattentive raters.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 0,
) -> None:
    """Simulate votes with the layout of DrawBench; they are always labelled as simulated."""
    import itertools
    import math

    from drawbench.simulation.raters import SimulatedPanel, simulate_votes, tie_threshold_for
    from drawbench.votes import write_votes

    strengths = _strengths(model or ["model A=0.2", "model B=0"])
    spread = math.sqrt(rater_sd**2 + prompt_sd**2 + 1)
    panel = SimulatedPanel(
        strengths=strengths,
        rater_sd=rater_sd,
        prompt_sd=prompt_sd,
        tie_threshold=tie_threshold_for(ties, spread=spread),
        side_bias=side_bias,
        lazy_share=lazy,
        seed=seed,
    )
    pairs = list(itertools.combinations(strengths, 2))
    votes = simulate_votes(panel, raters_per_category=raters, pairs=pairs)
    write_votes(out, votes)
    typer.echo(f"{len(votes)} simulated votes: {out}")
    for first, second in pairs:
        rate = panel.shares(first, second).win_rate
        typer.echo(f"true win rate of {first} against {second}: {100 * rate:.1f} %")


def _strengths(texts: list[str]) -> dict[str, float]:
    strengths: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            strengths[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise StudyError(
                f"--model {text!r} is not valid. Give NAME=STRENGTH, such as glide=0.2."
            )
    if len(strengths) != len(texts):
        raise StudyError("--model has the same name twice. Give each model its own name.")
    return strengths
