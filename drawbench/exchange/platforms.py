"""Crowd platforms: personal links for a batch, and which participants to approve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sqlalchemy import select

from drawbench.errors import VotesError
from drawbench.store import Store
from drawbench.store.store import Joined
from drawbench.store.tables import RaterRow
from drawbench.votes import read_cells


@dataclass(frozen=True, kw_only=True)
class MatchedBatch:
    """Rows of a crowd platform's batch, matched with the raters of a study."""

    table: pd.DataFrame
    """One row per row of the batch: `participant`, `platform_status`, `rater_id`, `state`, `code`
    (right, wrong, missing) and `advice` (approve, check, unknown)."""


def invitations(
    store: Store, count: int, *, address: str, block: str | None = None
) -> list[tuple[str, str]]:
    """Make personal links.

    Returns:
        (rater, link) pairs; MTurk takes the links as a column of a batch.
    """
    made = [store.invite(block=block) for _ in range(count)]
    return [(joined.rater.name, personal_link(address, joined)) for joined in made]


def personal_link(address: str, joined: Joined) -> str:
    """Return the personal link of a rater on the page at an address."""
    return f"{address.rstrip('/')}/?rater={joined.token}"


def match_batch(store: Store, path: Path) -> MatchedBatch:
    """Match the CSV of a Prolific or MTurk batch with raters, and store each participant's status.

    A row is matched by the platform's participant id if the rater has one, or by the completion
    code. The status ("APPROVED", "RETURNED") is stored with the rater and used in reports; no
    votes are changed.

    Raises:
        VotesError: No column names the participants.
    """
    table = read_cells(path)
    who = _column(table, ("participant id", "participant_id", "workerid", "worker id"))
    if who is None:
        raise VotesError(
            f"{path} has no column of participants. Expected Prolific's 'Participant id' or "
            "MTurk's "
            f"'WorkerId'; found {', '.join(table.columns)}."
        )
    status = _column(table, ("status", "assignmentstatus"))
    codes = [name for name in table.columns if _is_code(name)]
    rows = []
    with store.database.writing() as session:
        raters = session.scalars(select(RaterRow).where(RaterRow.study_id == store.study_id)).all()
        by_number = {rater.external_id: rater for rater in raters if rater.external_id}
        # A code that all raters share identifies nobody.
        shared = store.study.config.completion_code
        by_code = {r.completion_code: r for r in raters if r.completion_code != shared}
        for _, row in table.iterrows():
            given = [str(row[name]).strip().upper() for name in codes if str(row[name]).strip()]
            rater = by_number.get(str(row[who]).strip()) or next(
                (by_code[code] for code in given if code in by_code), None
            )
            said = str(row[status]).strip().lower() if status else ""
            if rater is not None and said:
                rater.platform_status = said[:40]
            rows.append((str(row[who]), said, *_judge(store, rater, given)))
    columns = ["participant", "platform_status", "rater_id", "state", "code", "advice"]
    return MatchedBatch(table=pd.DataFrame(rows, columns=columns))


def _judge(store: Store, rater: RaterRow | None, given: Sequence[str]) -> tuple[str, ...]:
    if rater is None:
        return "", "", "missing" if not given else "wrong", "unknown"
    state = store.view(rater).state
    code = "missing" if not given else "wrong"
    if rater.completion_code.upper() in given:
        code = "right"
    return rater.name, state, code, "approve" if state == "finished" else "check"


def _column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in table.columns if name.strip().lower() in names), None)


def _is_code(name: str) -> bool:
    lowered = name.lower()
    return "code" in lowered and (lowered.startswith(("answer.", "completion", "entered")))
