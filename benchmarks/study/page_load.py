"""Load test of the rating page: raters over real WebSockets, with pictures, on one server process.

    python -m benchmarks.study.page_load                    10 to 80 raters, about 2.5 minutes
    python -m benchmarks.study.page_load --kills 3          10 raters, the server killed 3 times

The first figure to compare is the processor time of the server for an answer, its pictures and its
part of opening the page: it hardly depends on what else the machine does. Each rater speaks Streamlit's protocol as a browser does: opens the page, loads the pictures, waits
as long as a person might, presses an answer, and waits until the page has moved on. The time of an
answer is that from the press to the end of the run that shows what comes next. The raters share the
machine with the server, so on few cores the figures are a lower bound.

With --kills, every answer after which the page moved on must be stored exactly once at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from sqlalchemy import func, select
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from drawbench.rating.serving import LOCALHOST, free_port, page_command, page_environment, wait_for
from drawbench.store import Store, open_store
from drawbench.store.tables import HistoryRow, RaterRow, VoteRow
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.suites import make_suite

MODELS = ("first", "second")
LEVELS = (10, 20, 40, 80)
GOAL_S = 1.0
NUM_PROMPTS = 24
SERVER_AWAY_S = 90.0
_ANSWER = re.compile(r"answer-(\d+)-(\d+)-(\d+)$")


def main(arguments: list[str]) -> int:
    """Run the load test and print the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--raters", default=",".join(map(str, LEVELS)), help="raters, by level")
    parser.add_argument("--seconds", type=float, default=25.0, help="duration of a level")
    parser.add_argument("--pause", type=float, default=4.0, help="mean seconds before an answer")
    parser.add_argument("--images", type=int, default=8, help="images per side")
    parser.add_argument("--size", type=int, default=256, help="side of an image in pixels")
    parser.add_argument("--kills", type=int, default=0, help="kill -9 of the server, 10 raters")
    parser.add_argument("--json", type=Path, help="also write the report here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="drawbench-page-") as folder:
        store = _make_store(Path(folder), options)
        server = Server(store)
        try:
            if options.kills:
                report = asyncio.run(_with_kills(server, store, options))
            else:
                report = asyncio.run(_levels(server, store, options))
        finally:
            server.stop()
            store.database.close()
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report))
    return 0 if report["passed"] else 1


class Server:
    """The server of the rating page, which can be killed and started again on its port."""

    def __init__(self, store: Store) -> None:
        self.port = free_port()
        self._environment = page_environment(store.study.path, "", join_limit=0)
        self.start()

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"{LOCALHOST}:{self.port}"

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def start(self) -> None:
        """Start it and wait until it responds."""
        self.process = subprocess.Popen(
            page_command(False, self.port, LOCALHOST),
            env={**self._environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(f"http://{self.netloc}", self.process)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a rater sees: the id of the component, the cell, the answers by question."""

    component: str
    cell: int
    pictures: tuple[str, ...]
    open_answers: dict[int, list[str]]
    """Ids of the buttons of each question without an answer, in order."""


@dataclass
class PageRater:
    """One rater with an open page."""

    netloc: str
    token: str
    pause_s: float
    draw: random.Random
    took_s: list[float] = field(default_factory=list)
    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    """Number of the answer, by cell and question: the page moved on after it."""
    _seen: set[str] = field(default_factory=set)

    async def rate_until(self, end: float) -> None:
        """Answer pages until a moment of the monotonic clock, or until none is left."""
        away_since: float | None = None
        while time.monotonic() < end:
            try:
                async with connect(
                    f"ws://{self.netloc}/_stcore/stream",
                    subprotocols=["streamlit"],  # type: ignore[list-item]
                    max_size=None,
                ) as socket:
                    away_since = None
                    if not await self._rate(socket, end):
                        return
            except (OSError, WebSocketException):
                # The server was killed; the browser finds back by itself.
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > SERVER_AWAY_S:
                    raise
                await asyncio.sleep(0.3)

    async def _rate(self, socket: Any, end: float) -> bool:
        page = await self._run(socket, [])
        while time.monotonic() < end:
            if page is None:
                return False
            await asyncio.to_thread(self._load_pictures, page)
            await asyncio.sleep(self.draw.expovariate(1 / self.pause_s))
            question, buttons = min(page.open_answers.items())
            number = self.draw.randrange(len(buttons))
            begun = time.monotonic()
            seen = {"seen": {"cell": page.cell, "missing": 0, "after_ms": 0}}
            after = await self._run(
                socket,
                [
                    WidgetState(id=page.component, json_value=json.dumps(seen)),
                    WidgetState(id=buttons[number], trigger_value=True),
                ],
            )
            if after is None or (after.cell, min(after.open_answers)) != (page.cell, question):
                self.took_s.append(time.monotonic() - begun)
                self.acknowledged[page.cell, question] = number
            page = after
        return True

    async def _run(self, socket: Any, states: list[WidgetState]) -> Page | None:
        """Send widget states and return the page after them; None where nothing is to be rated."""
        ask = BackMsg()
        ask.rerun_script.query_string = f"rater={self.token}"
        ask.rerun_script.widget_states.widgets.extend(states)
        await socket.send(ask.SerializeToString())
        buttons: list[tuple[str, bool]] = []
        component, data = "", None
        while True:
            message = ForwardMsg()
            message.ParseFromString(await socket.recv())
            kind = message.WhichOneof("type")
            if kind == "script_finished":
                break
            element = message.delta.new_element
            if element.WhichOneof("type") == "button":
                buttons.append((element.button.id, element.button.type == "primary"))
            elif element.WhichOneof("type") == "bidi_component":
                content = element.bidi_component
                component = content.id
                data = json.loads(content.json or content.mixed.json)
        return None if data is None else _page_of(component, data, buttons)

    def _load_pictures(self, page: Page) -> None:
        """Load the pictures that the browser does not have yet."""
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        try:
            for name in page.pictures:
                if name not in self._seen:
                    connection.request("GET", f"/picture/{name}")
                    connection.getresponse().read()
                    self._seen.add(name)
        finally:
            connection.close()


def _page_of(component: str, data: dict[str, Any], buttons: list[tuple[str, bool]]) -> Page:
    answers: dict[int, list[str]] = {}
    answered = set()
    for button, is_chosen in buttons:
        found = _ANSWER.search(button)
        if found and int(found[1]) == data["cell"]:
            answers.setdefault(int(found[2]), []).append(button)
            if is_chosen:
                answered.add(int(found[2]))
    return Page(
        component=component,
        cell=data["cell"],
        pictures=tuple(name for side in data["sets"] for name in side["names"]),
        open_answers={key: found for key, found in answers.items() if key not in answered},
    )


async def _levels(server: Server, store: Store, options: Any) -> dict[str, Any]:
    """Rate with more and more raters at once."""
    levels = []
    for count in map(int, options.raters.split(",")):
        people = _people(server, store, count, options.pause)
        begun, busy = time.monotonic(), server.cpu_s
        await asyncio.gather(*(each.rate_until(begun + options.seconds) for each in people))
        elapsed, busy = time.monotonic() - begun, server.cpu_s - busy
        took = np.array([seconds for each in people for seconds in each.took_s])
        p50, p95 = (float(np.percentile(took, q)) for q in (50, 95))
        levels.append(
            {
                "raters": count,
                "answers_per_s": round(len(took) / elapsed, 1),
                "p50_s": round(p50, 2),
                "p95_s": round(p95, 2),
                "max_s": round(float(took.max()), 2),
                "server_cpu_s_per_answer": round(busy / len(took), 3),
            }
        )
        print(levels[-1], file=sys.stderr)
    served = [level["answers_per_s"] for level in levels if level["p95_s"] < GOAL_S]
    return {
        "levels": levels,
        f"answers_per_s_with_p95_below_{GOAL_S:g}_s": max(served, default=None),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "passed": bool(served),
    }


async def _with_kills(server: Server, store: Store, options: Any) -> dict[str, Any]:
    """Kill the server while ten raters answer, and compare what they saw with what is stored."""
    people = _people(server, store, 10, min(options.pause, 0.5))
    end = time.monotonic() + options.seconds * (options.kills + 1)
    rating = asyncio.gather(*(each.rate_until(end) for each in people))
    for _ in range(options.kills):
        await asyncio.sleep(options.seconds * 0.6)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await rating
    return _judge(store, people, options.kills)


def _judge(store: Store, people: list[PageRater], kills: int) -> dict[str, Any]:
    names = {store.find_rater(each.token).id: each for each in people}  # type: ignore[union-attr]
    lost = num_acknowledged = num_stored = 0
    with store.database.reading() as session:
        num_rows = session.scalar(select(func.count()).select_from(VoteRow))
        num_history = session.scalar(select(func.count()).select_from(HistoryRow))
        for rater_id, each in names.items():
            votes = session.scalars(
                select(VoteRow)
                .join(RaterRow, RaterRow.id == VoteRow.rater_id)
                .where(RaterRow.id == rater_id)
            ).all()
            stored = {(vote.cell_id, vote.question): vote.shown for vote in votes}
            num_stored += len(stored)
            for (cell, index), number in each.acknowledged.items():
                num_acknowledged += 1
                place = next(p for p in store.hand(rater_id) if p.cell_id == cell)
                question = store.study.questions(place.item)[index]
                lost += stored.get((cell, question.id)) != question.answers[number].value
    return {
        "acknowledged_votes": num_acknowledged,
        "lost_votes": lost,
        "doubled_votes": (num_rows or 0) - num_stored,
        "stored_but_not_acknowledged": num_stored - num_acknowledged,
        "changed_votes": (num_history or 0) - num_stored,
        "kills": kills,
        # One answer of each rater may be on its way at a kill, and one at the end.
        "passed": not lost
        and num_rows == num_stored
        and 0 <= num_stored - num_acknowledged <= len(people) * (kills + 1)
        and num_acknowledged > 0,
    }


def _people(server: Server, store: Store, count: int, pause_s: float) -> list[PageRater]:
    return [
        PageRater(server.netloc, store.join(simulated=True).token, pause_s, random.Random(number))
        for number in range(count)
    ]


def _make_store(folder: Path, options: Any) -> Store:
    suite = make_suite("load", [(f"prompt {n}", "all") for n in range(NUM_PROMPTS)], source="b")
    noise = np.random.default_rng(0)
    sources = []
    for model in MODELS:
        images = folder / model
        images.mkdir()
        for prompt in suite.prompts:
            for sample in range(options.images):
                # Not plain and not pure noise: about as many bytes as a photograph of this size.
                small = noise.integers(0, 256, (options.size // 4, options.size // 4, 3), np.uint8)
                picture = Image.fromarray(small).resize((options.size, options.size))
                picture.save(images / f"{prompt.id}_{sample}.png", compress_level=1)
        sources.append(open_source(model, images, suite.prompts, per_prompt=options.images))
    config = make_config(
        {
            **load_preset("imagen-drawbench"),
            "models": list(MODELS),
            "images_per_side": options.images,
            "raters_per_item": 400,
            "num_practice": 0,
        }
    )
    return open_store(make_study(folder / "study", config, suite, sources), create=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
