"""What a gate requires, and the verdict on each requirement from an interval.

Advantages count in the metric's own direction: a candidate whose FID is 0.2 higher has an advantage
of -0.2. Every interval has the level 1 - 2 alpha, so each of its ends is a one-sided limit at
alpha, with the centre, the standard error and the degrees of freedom of the two-sided one.

| requirement | passes if | fails if |
|---|---|---|
| non-inferior within m | low > -m | high < -m |
| equivalent within m | -m < low and high < m | high < -m or low > m |
| superior by s (0 by default) | low > s | high < s |
| bound b on the candidate's value, which is as good as b at advantage 0 | low > 0 | high < 0 |

Everything else is undecided: the interval contains a bound, so the data say neither. Passing is
stated by strict inequalities, so NaN never passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.core.results import Direction, ResultRecord
from evalkit.gate.power import Spread
from evalkit.metrics.comparison import holm

Kind = Literal["non-inferior", "equivalent", "superior", "superior in any", "bound"]
Verdict = Literal["passed", "failed", "undecided", "not measured"]
EXIT_CODES: Mapping[Verdict, int] = {
    "passed": 0, "failed": 1, "not measured": 3, "undecided": 4,
}  # fmt: skip
CRASHED = 70
"""Exit code of a bug; EX_SOFTWARE of sysexits.h."""
_LEVEL_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One requirement on one metric."""

    metric: str
    """Name of a record, such as `fid-infinity` or `clip-score`."""
    kind: Kind
    value: float = 0.0
    """Margin, at least 0, or bound; in the metric's unit."""

    @property
    def words(self) -> str:
        """Say what it asks for, such as `non-inferior within 0.3`."""
        if self.kind == "superior":
            return f"superior by {self.value:g}" if self.value else "superior"
        if self.kind == "superior in any":
            return "superior (any of these, Holm)"
        if self.kind == "bound":
            return f"bound {self.value:g}"
        return f"{self.kind} within {self.value:g}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A requirement with its verdict."""

    requirement: Requirement
    verdict: Verdict
    record: ResultRecord | None = None
    """The paired difference, candidate minus baseline, or the candidate's value for a bound."""
    direction: Direction = "none"
    """Which direction is better."""
    reason: str = ""
    """Why it was not measured, or why nothing decides it."""
    images_to_decide: int | None = None
    """Images of each run that would probably decide it; None unless it is undecided."""
    p_value: float | None = None
    """One-sided p-value after Holm's correction, of `superior in any`."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a gate decides."""

    alpha: float = 0.05
    """Probability that a requirement passes if the truth is at its bound, at most."""
    power: float = 0.8
    """Probability of a decision for which images are counted."""

    @property
    def level(self) -> float:
        """Level of the two-sided interval whose ends are one-sided limits at alpha."""
        return 1 - 2 * self.alpha


@dataclass(frozen=True)
class _Advantage:
    """An estimate and its limits, in the direction in which more is better."""

    value: float
    low: float
    high: float


def judge(requirement: Requirement, record: ResultRecord, rule: Rule, *, num_images: int) -> Judged:
    """Judge one requirement by its record.

    Args:
        requirement: Any but `superior in any`.
        record: The paired difference, or the candidate's value for a bound, with an interval of
            `rule.level`.
        rule: How to decide.
        num_images: Images of each run, for the number that would decide.
    """
    unmeasured = why_not_measured(record)
    if unmeasured:
        return Judged(
            requirement=requirement, verdict="not measured", record=record,
            direction=record.direction, reason=unmeasured,
        )  # fmt: skip
    found = _advantage(requirement, record, rule)
    below, above = _limits(requirement)
    verdict: Verdict = "undecided"
    if found.low > below and (above is None or found.high < above):
        verdict = "passed"
    elif found.high < below or (above is not None and found.low > above):
        verdict = "failed"
    judged = Judged(
        requirement=requirement, verdict=verdict, record=record, direction=record.direction
    )
    return judged if verdict != "undecided" else _with_number(judged, found, rule, num_images)


def judge_any(
    requirements: Sequence[Requirement],
    records: Sequence[ResultRecord],
    rule: Rule,
    *,
    num_images: int,
) -> list[Judged]:
    """Judge superiority in any of several metrics, corrected by Holm.

    A metric passes if its corrected one-sided p-value is at most alpha, and fails if its interval
    says that the candidate is worse.
    """
    judged = [
        judge(replace(one, kind="superior"), record, rule, num_images=num_images)
        for one, record in zip(requirements, records, strict=True)
    ]
    # One that could not be measured counts as a test that shows nothing.
    corrected = holm([_one_sided_p(one.record) for one in judged])
    found = []
    for one, requirement, p_value in zip(judged, requirements, corrected, strict=True):
        verdict, reason = one.verdict, one.reason
        if verdict == "passed" and p_value > rule.alpha:
            reason = "superior alone, but not after the correction for several metrics"
        if verdict in ("passed", "undecided"):
            verdict = "passed" if p_value <= rule.alpha else "undecided"
        number = one.images_to_decide if verdict == "undecided" else None
        found.append(
            replace(
                one, requirement=requirement, verdict=verdict, p_value=p_value, reason=reason,
                images_to_decide=number,
            )
        )  # fmt: skip
    return found


def overall(judged: Sequence[Judged]) -> Verdict:
    """Return the verdict of a gate: passed if every requirement passed.

    One that failed decides the gate, whatever else is missing. Of `superior in any`, one must pass;
    they fail together if all of them failed.
    """
    single = [one.verdict for one in judged if one.requirement.kind != "superior in any"]
    of_any = [one.verdict for one in judged if one.requirement.kind == "superior in any"]
    if of_any:
        single.append(_of_any(of_any))
    for verdict in ("failed", "not measured", "undecided"):
        if verdict in single:
            return verdict
    return "passed" if single and all(one == "passed" for one in single) else "not measured"


def _of_any(verdicts: Sequence[Verdict]) -> Verdict:
    if "passed" in verdicts:
        return "passed"
    if all(one == "failed" for one in verdicts):
        return "failed"
    return "not measured" if "not measured" in verdicts else "undecided"


def why_not_measured(record: ResultRecord) -> str:
    """Say why a record can't be judged; empty if it can."""
    if record.value is None:
        return record.reason or record.state
    if record.interval is None:
        return record.reason or "it has no interval"
    numbers = (record.value, record.interval.low, record.interval.high)
    if not all(map(math.isfinite, numbers)):
        return "its value or interval is not finite"
    if record.standard_error is not None and not math.isfinite(record.standard_error):
        return "its standard error is not finite"
    if record.direction == "none":
        return "it has no better direction"
    return ""


def _advantage(requirement: Requirement, record: ResultRecord, rule: Rule) -> _Advantage:
    assert record.value is not None
    assert record.interval is not None
    if abs(record.interval.level - rule.level) > _LEVEL_ROUNDING:
        raise ValueError(
            f"{record.metric}: the interval has level {record.interval.level}, but one-sided "
            f"limits at {rule.alpha} are the ends of one of level {rule.level}."
        )
    centre = requirement.value if requirement.kind == "bound" else 0.0
    ends = [x - centre for x in (record.value, record.interval.low, record.interval.high)]
    if record.direction == "higher":
        return _Advantage(*ends)
    return _Advantage(-ends[0], -ends[2], -ends[1])


def _limits(requirement: Requirement) -> tuple[float, float | None]:
    """Return the bound below the advantage, and the one above it for equivalence."""
    margin = requirement.value
    if requirement.kind == "equivalent":
        return -margin, margin
    if requirement.kind == "non-inferior":
        return -margin, None
    return (0.0 if requirement.kind == "bound" else margin), None


def _with_number(judged: Judged, found: _Advantage, rule: Rule, num_images: int) -> Judged:
    """Add the number of images that would decide, if the truth is as estimated."""
    assert judged.record is not None
    spread = Spread.of(judged.record)
    assert spread is not None
    below, above = _limits(judged.requirement)
    distances = [found.value - below] + ([] if above is None else [above - found.value])
    if min(distances) > 0:
        needed = spread.units_needed(
            distances[0],
            rule.power,
            alpha=rule.alpha,
            above=None if above is None else distances[1],
        )
    else:
        needed = spread.units_needed(-min(distances), rule.power, alpha=rule.alpha)
    if needed is None:
        return replace(judged, reason="the estimate is at the bound, so no number decides it")
    return replace(judged, images_to_decide=math.ceil(needed * num_images / spread.n))


def _one_sided_p(record: ResultRecord | None) -> float:
    """Return the p-value of "not superior", from that of no difference; 1 where there is none."""
    two_sided = None if record is None else record.details.get("p_value")
    if record is None or record.value is None or two_sided is None or why_not_measured(record):
        return 1.0
    better = record.value > 0 if record.direction == "higher" else record.value < 0
    p_value = float(two_sided) / 2 if better else 1 - float(two_sided) / 2
    return p_value if math.isfinite(p_value) else 1.0
