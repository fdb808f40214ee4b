"""The researchers' page: `streamlit run app/results.py` or `evalkit drawbench rate --results`.

It has its own server, so that nothing on the raters' server leads to it. The environment variable
EVALKIT_RESULTS_PASSWORD sets its password; without one the page stays closed. Whoever gave it gets
a cookie, so that it is asked once a day and not at every reload.
"""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from drawbench.exchange.exports import ratings_frame, votes_frame
from drawbench.pages.look import apply_style, client_address, plain_markdown, reading_card
from drawbench.pages.opening import shared_gate, shared_store
from drawbench.report.live import (
    PEEKING_NOTE,
    Disputed,
    LiveResults,
    disputed_prompts,
    look,
    win_rate_table,
)
from drawbench.report.page import render_page
from drawbench.report.study import context_of, marks_of
from drawbench.stats.analysis import Analysis
from drawbench.store import Store
from drawbench.votes import csv_text
from evalkit.core.errors import EvalkitError

GALLERY_PX = 130  # four to a row, two rows for a set of eight
COOKIE = "evalkit_results"
TRANSLATED = (
    "Your browser is translating this page. Names and numbers stay as they are; if the page "
    "behaves strangely, turn the translation off."
)
COLOUR_A = "#2f6f73"


def main() -> None:
    """Draw the page once."""
    st.set_page_config(page_title="Results", layout="wide")
    apply_style(TRANSLATED)
    if not _is_admitted():
        _ask_for_password()
        return
    try:
        store = shared_store()
        live = look(store)
    except EvalkitError as error:
        st.error(plain_markdown(str(error)))
        st.button("Try again")
        return
    _head(store, live)
    progress, winners, raters, gallery, export = st.tabs(
        ["Progress", "Win rates", "Raters", "Disputed", "Export"]
    )
    with progress:
        _progress(live)
    with winners:
        _win_rates(live)
    with raters:
        _raters(live)
    with gallery:
        _gallery(store, live)
    with export:
        _export(store, live)


def _is_admitted() -> bool:
    """Return whether this visitor gave the password, now or before a reload."""
    gate = shared_gate()
    ticket = st.session_state.get("ticket", "")
    if gate.knows(ticket):
        if st.context.cookies.get(COOKIE) != ticket:
            _set_cookie(ticket)
        return True
    kept = str(st.context.cookies.get(COOKIE) or "")
    if gate.knows(kept):
        st.session_state.ticket = kept
        return True
    return False


def _set_cookie(ticket: str) -> None:
    """Keep a ticket, which is hexadecimal, in the browser until it is closed."""
    script = (
        f'document.cookie = "{COOKIE}={ticket}; path=/; SameSite=Strict"'
        ' + (location.protocol === "https:" ? "; Secure" : "");'
    )
    st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)


def _ask_for_password() -> None:
    gate, client = shared_gate(), client_address()
    with reading_card(460):
        st.html("<h1>Results</h1>")
        if not gate.password:
            st.error(
                "This page is closed: no password is set. Set EVALKIT_RESULTS_PASSWORD and "
                "restart the server."
            )
            return
        with st.form("password", border=False):
            given = st.text_input("Password", type="password")
            if st.form_submit_button("Open", type="primary"):
                if gate.admits(given, client):
                    st.session_state.ticket = gate.issue_ticket()
                    st.rerun()
                st.error(
                    "Wrong password. Try again."
                    if gate.hears(client)
                    else "Too many wrong passwords. Try again in a quarter of an hour."
                )


def _head(store: Store, live: LiveResults) -> None:
    st.header(plain_markdown(store.study.config.title), anchor=False)
    marks = [f"{store.study.document.label.upper()} STUDY"] if store.study.document.label else []
    marks += [mark.rstrip(".") for mark in marks_of(store.study)]
    if live.analysis is not None and live.analysis.simulated:
        marks.append(
            f"SIMULATED: {live.analysis.num_simulated} of {live.analysis.num_votes} votes come "
            "from simulated raters"
        )
    if marks:
        st.error(plain_markdown(". ".join(marks)))
    done, wanted = int(live.quotas["done"].sum()), int(live.quotas["wanted"].sum())
    states = live.raters["state"].value_counts()
    columns = st.columns(4)
    columns[0].metric("Complete ratings", f"{done:,} of {wanted:,}")
    columns[1].metric("Raters finished", int(states.get("finished", 0)))
    columns[2].metric("Raters in progress", int(states.get("active", 0)))
    columns[3].metric("Reported images", len(live.reports))
    st.button("Refresh", key="look", help="Reload the votes.")


def _progress(live: LiveResults) -> None:
    st.dataframe(
        live.quotas,
        hide_index=True,
        column_config={
            "in_work": "in progress",
            "wanted": "required",
            "share": st.column_config.ProgressColumn("share", format="percent", max_value=1.0),
        },
    )
    if len(live.reports):
        st.subheader("Reported images", anchor=False)
        st.dataframe(live.reports, hide_index=True)


def _win_rates(live: LiveResults) -> None:
    if live.analysis is None:
        st.info("No votes yet.")
        return
    if not live.is_complete:
        st.warning(PEEKING_NOTE)
    for pair in live.analysis.pairs:
        st.markdown(
            plain_markdown(f"{pair.model_a} against {pair.model_b}: ")
            + "**"
            + plain_markdown(pair.conclusion.sentence)
            + "**"
        )
    table = win_rate_table(live.analysis)
    for name, rows in table.groupby("pair", sort=False):
        st.altair_chart(win_rate_chart(rows, str(name)))
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            column: st.column_config.NumberColumn(column, format="%.1f")
            for column in ("prefer_a", "tie", "prefer_b", "win_rate", "low", "high")
        },
    )
    if live.analysis.filtered is not None:
        st.subheader("Without flagged raters", anchor=False)
        st.caption(f"{live.analysis.num_flagged} raters are flagged; see the Raters tab.")
        st.dataframe(win_rate_table(live.analysis.filtered), hide_index=True)


def win_rate_chart(rows: pd.DataFrame, pair: str) -> alt.FacetChart:
    """Chart the win rate of a pair's first model by category, one panel per question."""
    first = pair.partition(" : ")[0]
    order = ["overall", *sorted(set(rows["where"]) - {"overall"})]
    base = alt.Chart(rows).encode(y=alt.Y("where:N", sort=order, title=None))
    scale = alt.Scale(domain=[0, 100])
    whole = base.mark_rule(color=COLOUR_A, strokeWidth=2).encode(
        x=alt.X("low:Q", scale=scale, title=f"win rate of {first} in %, with 95 % interval"),
        x2="high:Q",
    )
    dots = base.mark_point(color=COLOUR_A, filled=True, size=70).encode(
        x=alt.X("win_rate:Q", scale=scale), tooltip=["where", "win_rate", "low", "high", "votes"]
    )
    half = alt.Chart(rows).mark_rule(color="#8a8f91", strokeDash=[3, 3]).encode(x=alt.datum(50))
    return (
        alt.layer(half, whole, dots)
        .properties(width=420, height=alt.Step(24))
        .facet(column=alt.Column("question:N", title=None))
    )


def _raters(live: LiveResults) -> None:
    st.caption(
        "A flag is a reason to look at a rater, not to exclude one: no rater is excluded silently."
    )
    first = ["rater_id", "flags"]
    others = [name for name in live.raters if name not in (*first, "completion_code")]
    st.dataframe(live.raters[[*first, *others]], hide_index=True)


def _gallery(store: Store, live: LiveResults) -> None:
    found = disputed_prompts(store, live.analysis) if live.analysis is not None else []
    if not found:
        st.info("No disputed prompts yet.")
    for item in found:
        _disputed(item)


def _disputed(item: Disputed) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain_markdown(item.prompt)}**")
        st.caption(
            plain_markdown(
                f"{item.category}, {item.question}: {item.model_a} {100 * item.share_a:.0f} %, tie "
                f"{100 * item.share_tie:.0f} %, {item.model_b} {100 * item.share_b:.0f} % of "
                f"{item.num_votes} votes"
            )
        )
        for column, name, images in zip(
            st.columns(2), (item.model_a, item.model_b), (item.images_a, item.images_b), strict=True
        ):
            with column:
                st.caption(plain_markdown(name))
                with st.container(horizontal=True):
                    for path in images[:8]:
                        st.image(path.read_bytes(), width=GALLERY_PX)


def _export(store: Store, live: LiveResults) -> None:
    st.caption("Rater names are random. raters.csv contains the ids of crowd platforms.")
    frames = {
        "votes.csv": votes_frame(store),
        "ratings.csv": ratings_frame(store),
        "raters.csv": live.raters,
        "reports.csv": live.reports,
    }
    for name, frame in frames.items():
        rows = frame.astype(object).itertuples(index=False, name=None)
        st.download_button(
            f"{name} ({len(frame)} rows)", csv_text(list(frame.columns), rows), name, "text/csv"
        )
    if live.analysis is not None:
        st.download_button(
            "report.html", _report(store, live.analysis), "report.html", "text/html", key="report"
        )


def _report(store: Store, analysis: Analysis) -> str:
    return render_page(analysis, context_of(store))


if __name__ == "__main__":
    main()
