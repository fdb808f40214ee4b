"""`--log-to`: what trackers get is what the records say, read back from tensorboard's files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from typer.main import get_command

from evalkit import cli
from evalkit.core.errors import ConfigError, MissingExtraError, OutputError
from evalkit.core.results import Interval, ResultRecord, read_records
from evalkit.options.tracking import TrackingOptions, tracker_names
from evalkit.reports.trackers import scalars, tracker_log
from tests.evalkit.commands.test_commands import GLIDE, drawn, run
from tests.evalkit.commands.test_watch import fill

__all__ = ["drawn"]

COMMANDS = ("fid", "sweep", "watch", "train")
OPTIONS = sys.modules["evalkit.options.tracking"]
"""The module; the package's attribute of this name is its decorator."""


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by tag and step, from all event files directly in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: {event.step: event.value for event in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
    }


def of_record(record: ResultRecord) -> dict[str, float]:
    return scalars([record])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_have_the_same_options(command: str) -> None:
    found = get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    flags = {flag for parameter in found.params for flag in parameter.opts}
    assert {"--log-to", "--log-dir", "--log-project"} <= flags


def test_fid_logs_its_records(tmp_path: Path, drawn: Path) -> None:
    out = tmp_path / "run"
    words = ["--metrics", "clip-score,composition", "--log-to", "tensorboard"]
    assert run("fid", *GLIDE, "--data", drawn, "--n", 4, *words, "--out", out) == 0
    found = events(out / "logs" / "run")
    records = {r.metric: r for r in read_records(out / "results.json")}
    clip = records["clip-score"]
    assert clip.interval is not None
    expected = {
        "clip-score": clip.value,
        "clip-score/low": clip.interval.low,
        "clip-score/high": clip.interval.high,
    }
    assert {tag: found[tag][0] for tag in expected} == pytest.approx(expected, rel=1e-6)
    measured = {r.metric for r in records.values() if r.value is not None}
    assert measured <= found.keys()
    # The run is still one, and what was logged is no part of it.
    assert run("report", out) == 0


def test_watch_logs_each_checkpoint_at_its_step_and_goes_on(tmp_path: Path) -> None:
    root, reference = tmp_path / "samples", fill(tmp_path / "reference", 0, 12)
    words = ["--against", reference, "--features", "shapes-clip", "--metrics", "fd", "--once",
             "--settle", 0, "--log-to", "tensorboard", "--log-dir", tmp_path / "tb"]  # fmt: skip
    for step in (100, 2000):
        fill(root / f"step-{step}", step)
        assert run("watch", root, *words) == 0
    found = events(tmp_path / "tb" / "samples")
    distances = {
        r.fingerprint["step"]: r.value
        for r in read_records(root / "watch.json")
        if r.metric == "fd"
    }
    assert found["fd"] == pytest.approx(distances, rel=1e-6)
    assert set(found["fd"]) == {100, 2000}


def test_sweep_logs_each_point(tmp_path: Path, drawn: Path) -> None:
    out = tmp_path / "sweep"
    assert run("sweep", "--model", "glide:tiny", "--data", drawn, "--n", 4, "--batch-size", 4,
               "--steps", "2,3", "--metrics", "clip-score",
               "--yes", "--out", out, "--log-to", "tensorboard") == 0  # fmt: skip
    found = events(out / "logs" / "sweep")
    assert found["steps"] == {0: 2.0, 1: 3.0}
    values = [r.value for r in read_records(out / "sweep.json") if r.metric == "clip-score"]
    assert [found["clip-score"][0], found["clip-score"][1]] == pytest.approx(values, rel=1e-6)


def test_train_logs_the_loss(tmp_path: Path) -> None:
    out = tmp_path / "training"
    recipe = tmp_path / "small.toml"
    shipped = Path(cli.__file__).parents[1] / "generators/training/recipes/ddpm-tiny.toml"
    text = shipped.read_text().splitlines()
    recipe.write_text(
        "\n".join(
            "num_images = 64" if line.startswith("num_images") else
            "batch_size = 4" if line.startswith("batch_size") else line
            for line in text
        )
    )  # fmt: skip
    assert run("train", recipe, "--steps", 3, "--cpu", "--out", out, "--log-to", "tensorboard") == 0
    (folder,) = (out / "logs").iterdir()
    found = events(folder)
    assert list(found["loss"]) == [3]
    assert found["loss"][3] > 0
    assert found["steps_per_s"][3] > 0


def test_a_record_becomes_its_value_and_the_ends_of_its_interval() -> None:
    interval = Interval(low=1.0, high=3.0, method="m")
    whole = ResultRecord(metric="fid", value=2.0, n=5, direction="lower", interval=interval)
    part = ResultRecord(metric="fid", value=9.0, n=2, direction="lower", subject="a category")
    failed = ResultRecord(
        metric="kid", value=None, n=5, direction="lower", state="failed", reason="no weights"
    )
    assert scalars([whole, part, failed]) == {"fid": 2.0, "fid/low": 1.0, "fid/high": 3.0}


class TestMissing:
    """What is not installed is said before the work."""

    @pytest.fixture
    def nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(OPTIONS, "find_spec", lambda name: None)

    @pytest.mark.usefixtures("nothing")
    def test_accelerate(self) -> None:
        with pytest.raises(MissingExtraError, match=r"evalkit\[tracking\]"):
            TrackingOptions(log_to=("tensorboard",)).check()

    def test_a_tracker_is_one_line_and_2(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        find = OPTIONS.find_spec
        monkeypatch.setattr(
            OPTIONS, "find_spec", lambda name: None if name == "wandb" else find(name)
        )
        out = tmp_path / "run"
        assert run("fid", *GLIDE, "--data", "shapes", "--n", 4, "--out", out,
                   "--log-to", "tensorboard,wandb") == 2  # fmt: skip
        error = capsys.readouterr().err.strip()
        assert error == (
            "evalkit: --log-to wandb: the package wandb is not installed. Install it: pip install "
            "wandb."
        )
        assert not out.exists()

    def test_no_name(self) -> None:
        with pytest.raises(ConfigError, match="name a tracker"):
            tracker_names(" , ")

    @pytest.mark.usefixtures("nothing")
    def test_without_trackers_nothing_is_needed(self, tmp_path: Path) -> None:
        TrackingOptions().check()
        with tracker_log(TrackingOptions(), name="a", out=tmp_path / "none") as log:
            log.log({"fid": 1.0}, step=0)
        assert not (tmp_path / "none").exists()


class SimulatedError(Exception):
    """What a simulated tracker raises."""


class Simulated:
    """A simulated wandb, trackio or mlflow: it notes its calls and touches no network."""

    MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH = 500, 100

    def __init__(self, failing: str = "") -> None:
        self.calls: list[tuple[str, tuple[Any, ...], Mapping[str, Any]]] = []
        self.failing = failing
        """Name of the call that fails, as without a network."""

    def module(self, name: str) -> ModuleType:
        module = ModuleType(name)
        module.__getattr__ = lambda part: self if part in ("config", "run") else self[part]  # type: ignore[method-assign]
        module.utils = self  # type: ignore[attr-defined]
        return module

    @property
    def validation(self) -> Simulated:
        return self

    def __getitem__(self, name: str) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            if name == self.failing:
                raise SimulatedError("No API key\nconfigured.")
            self.calls.append((name, arguments, options))
            return [] if name == "search_experiments" else self

        return called

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]


def install(monkeypatch: pytest.MonkeyPatch, kind: str, simulated: Simulated) -> None:
    """Put a simulated package in the place of a tracker's."""
    monkeypatch.setitem(sys.modules, kind, simulated.module(kind))
    faults = ModuleType("faults")
    faults.Error = faults.MlflowException = SimulatedError  # type: ignore[attr-defined]
    for name in ("errors", "exceptions"):
        monkeypatch.setitem(sys.modules, f"{kind}.{name}", faults)


@pytest.mark.parametrize(
    ("kind", "opened", "options"),
    [
        ("wandb", "init", {"project": "p", "name": "a run"}),
        ("trackio", "init", {"project": "p", "name": "a run"}),
        ("mlflow", "start_run", {"run_name": "a run"}),
    ],
)
def test_other_trackers_get_project_name_and_numbers(
    kind: str, opened: str, options: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a simulated package, through accelerate's own class for it, in a new process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    simulated = Simulated()
    install(monkeypatch, kind, simulated)
    chosen = TrackingOptions(log_to=(kind,), project="p", log_dir=tmp_path / "logs")
    with tracker_log(chosen, name="a run", out=tmp_path, configuration={"command": "c"}) as log:
        log.log({"fid": 2.0}, step=7)
    calls = {name: (arguments, given) for name, arguments, given in simulated.calls}
    assert options.items() <= calls[opened][1].items()
    arguments, given = calls["log_metrics" if kind == "mlflow" else "log"]
    assert (arguments[0], given["step"]) == ({"fid": 2.0}, 7)
    assert "end_run" in calls or "finish" in calls


@pytest.mark.parametrize(("kind", "call"), [("wandb", "init"), ("mlflow", "start_run")])
def test_a_tracker_that_cannot_start_is_one_line(
    kind: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, kind, Simulated(failing=call))
    with (
        pytest.raises(ConfigError, match=rf"--log-to {kind}: it can't start \(No API key conf"),
        tracker_log(TrackingOptions(log_to=(kind,)), name="a", out=tmp_path),
    ):
        pass


def test_a_server_that_fails_meanwhile_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "mlflow", Simulated(failing="log_metrics"))
    chosen = TrackingOptions(log_to=("mlflow", "tensorboard"))
    with tracker_log(chosen, name="a run", out=tmp_path) as log:
        for step in range(2):
            log.log({"fid": 2.0}, step=step)
    assert events(tmp_path / "logs" / "a run") == {"fid": {0: 2.0, 1: 2.0}}
    assert capsys.readouterr().err.count("note: mlflow failed and gets no more numbers") == 1


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--log-dir takes a folder"):
        TrackingOptions(log_to=("tensorboard",), log_dir=tmp_path / "file").check()
