"""The gate that a command's options name: a file, or margins and bounds on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.gate.definition import GateDefinition, gate_of, parse_pairs, read_gate


def chosen_gate(
    file: Path | None,
    *,
    baseline: str | None,
    against: str | None,
    alpha: float | None,
    margin: Sequence[str] | None = None,
    equivalent: Sequence[str] | None = None,
    superior: Sequence[str] | None = None,
    superior_any: Sequence[str] | None = None,
    bound: Sequence[str] | None = None,
) -> GateDefinition:
    """Read a gate's file, or build the gate that the options describe.

    Only the places, baseline and reference, may be typed beside a file: a requirement that is typed
    over a file's would loosen it unseen.

    Raises:
        ConfigError: Requirements beside a file, or what `gate_of` refuses.
    """
    typed = {
        "--margin": margin, "--equivalent": equivalent, "--superior": superior,
        "--superior-any": superior_any, "--bound": bound, "--alpha": alpha,
    }  # fmt: skip
    places = {"baseline": baseline, "against": against}
    named = {name: place for name, place in places.items() if place is not None}
    if file is not None:
        beside = [flag for flag, given in typed.items() if given not in (None, [])]
        if beside:
            raise ConfigError(f"{beside[0]} and --gate {file}: write it into the file, or drop it.")
        return read_gate(file).model_copy(update=named)
    raw: dict[str, Any] = {
        "margins": parse_pairs(margin or (), "--margin"),
        "equivalent": parse_pairs(equivalent or (), "--equivalent"),
        "superior": parse_pairs(superior or (), "--superior", default=0.0),
        "superior-any": tuple(superior_any or ()),
        "bounds": parse_pairs(bound or (), "--bound"),
        **({} if alpha is None else {"alpha": alpha}),
        **named,
    }
    return gate_of(raw)
