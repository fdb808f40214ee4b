"""Commands with --devices and --shard: the same images and the same records as in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit import cli
from evalkit.commands.suite import SuiteOptions, generate_suite
from evalkit.core.errors import ConfigError
from evalkit.core.progress import silent
from evalkit.core.results import read_records
from evalkit.core.run import Shard
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.features.store import FeatureStore
from evalkit.metrics.frechet import workers as group_workers
from evalkit.metrics.frechet.jackknife import GroupedMoments
from evalkit.options import SamplingOptions, SpreadOptions
from evalkit.options.spreading import worker_devices
from evalkit.workers.opening import pool_opener

SAME = 1e-10
FUNCTION = """
import numpy as np

def draw(prompts, seeds):
    return [np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8) for seed in seeds]
"""


def run(*words: str) -> None:
    cli.app([*words, "--device", "cpu"], standalone_mode=False)


def spread(*words: str) -> None:
    cli.app([*words, "--devices", "cpu,cpu"], standalone_mode=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("model") / "mine.py"
    file.write_text(FUNCTION)
    return f"python:{file}:draw"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 0, 40, 0)
    return str(folder)


def contents(path: Path) -> dict[str, bytes]:
    kept = [p for p in path.rglob("*") if p.suffix == ".png" or p.name == "manifest.jsonl"]
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(kept)}


def numbers(path: Path) -> dict[str, Any]:
    found = {}
    for record in read_records(path):
        ends = record.interval and (record.interval.low, record.interval.high)
        found[record.subject, record.metric] = (record.value, ends, record.n, record.state)
    return found


def assert_same_records(first: Path, second: Path) -> None:
    one, other = numbers(first), numbers(second)
    one.pop(("", "images-per-second"), None)
    assert one.keys() == other.keys()
    for key, (value, ends, n, state) in one.items():
        assert other[key][2:] == (n, state)
        if value is not None:
            assert other[key][0] == pytest.approx(value, rel=SAME, abs=SAME), key
        if ends is not None:
            assert other[key][1] == pytest.approx(ends, rel=SAME, abs=SAME), key


def test_score_by_two_processes(tmp_path: Path, model: str, shapes: str) -> None:
    what = ("generate", "--model", model, "--data", shapes, "--n", "20", "--out")
    run(*what, str(tmp_path / "run"))
    score = ("score", str(tmp_path / "run"), "--against", shapes, "--metrics", "fd")
    how = ("--batch-size", "4", "--store")
    spread(*score, *how, str(tmp_path / "two"), "--json", str(tmp_path / "two.json"))
    run(*score, *how, str(tmp_path / "one"), "--json", str(tmp_path / "one.json"))
    assert_same_records(tmp_path / "one.json", tmp_path / "two.json")


@pytest.mark.slow
def test_fid_and_score_by_two_processes(
    tmp_path: Path, model: str, shapes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.metrics.score.FEWEST_IMAGES", 1)  # so that groups are spread too
    what = ("fid", "--model", model, "--data", shapes, "--n", "40", "--batch-size", "4")
    how = ("--metrics", "fd,clip-score,kid", "--kid-subset-size", "20")
    for name, command in (("one", run), ("two", spread)):
        store = ("--store", str(tmp_path / f"store-{name}"))
        command(*what, *how, *store, "--out", str(tmp_path / name))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert_same_records(tmp_path / "one" / "results.json", tmp_path / "two" / "results.json")
    stored = [
        sorted(part.num_rows for part in FeatureStore(tmp_path / f"store-{name}").contents())
        for name in ("one", "two")
    ]
    assert stored[0] == stored[1]
    score = ("score", str(tmp_path / "one"), "--against", shapes, *how, "--batch-size", "4")
    spread(*score, "--store", str(tmp_path / "third"), "--json", str(tmp_path / "scored.json"))
    run(*score, "--store", str(tmp_path / "fourth"), "--json", str(tmp_path / "alone.json"))
    assert_same_records(tmp_path / "alone.json", tmp_path / "scored.json")


@pytest.mark.slow
def test_matrix_by_two_processes(tmp_path: Path, model: str, shapes: str) -> None:
    run(
        "generate", "--model", model, "--data", shapes, "--n", "20", "--out", str(tmp_path / "run")
    )  # fmt: skip
    what = (
        "matrix", str(tmp_path / "run"), "--against", shapes, "--protocols", "shapes-1k",
        "--vary", "none", "--metrics", "fd",
    )  # fmt: skip
    files = [
        ("--json", str(tmp_path / f"{name}.json"), "--html", str(tmp_path / f"{name}.html"))
        for name in ("one", "two")
    ]
    run(*what, *files[0])
    spread(*what, *files[1])
    assert_same_records(tmp_path / "one.json", tmp_path / "two.json")


def test_four_shards_merge_into_the_same_bytes(tmp_path: Path, model: str) -> None:
    what = ("generate", "--model", model, "--prompt", "a", "--prompt", "b", "--n", "50",
            "--batch-size", "4")  # fmt: skip
    run(*what, "--out", str(tmp_path / "one"))
    for number in (3, 1, 4):
        run(*what, "--out", str(tmp_path / "four"), "--shard", f"{number}/4")
    with pytest.raises(Exception, match="Shards: 2/4 has not ended"):
        cli.app(["runs", "merge", str(tmp_path / "four")], standalone_mode=False)
    spread(*what, "--out", str(tmp_path / "four"), "--shard", "2/4")
    cli.app(["runs", "merge", str(tmp_path / "four")], standalone_mode=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "four")
    names = {path.name for path in (tmp_path / "four").iterdir()}
    assert names <= {"run.json", "manifest.jsonl", "timings.jsonl", "images", ".lock"}


def test_suites_are_spread_and_cut_into_shards(tmp_path: Path, model: str) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,category\na red circle,Colors\nfive dogs,Counting\n")
    sampling = SamplingOptions(batch_size=2)

    def made(out: str, where: SpreadOptions) -> dict[str, bytes]:
        generate_suite(
            SuiteOptions(
                suite=f"mine={prompts}", models=(model,), per_prompt=4, sampling=sampling,
                out=tmp_path / out, spread=where,
            ),
            silent,
        )  # fmt: skip
        return contents(tmp_path / out)

    alone = made("one", SpreadOptions())
    assert made("two", SpreadOptions(devices=("cpu", "cpu"))) == alone
    for number in (1, 2):
        found = made("shards", SpreadOptions(shard=Shard(number, 2)))
    assert {name for name in alone if name.endswith(".png")} == found.keys()


def test_progress_as_json(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("generate", "--model", model, "--prompt", "a", "--out", str(tmp_path / "run"))
    run(*words, "--log-format", "json")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["ended"] * len(lines)
    assert any(line["task"].startswith("Sampling") for line in lines)
    run(*words)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--shard", "0/4"), "i from 1 to N"),
        (("--shard", "5/4"), "i from 1 to N"),
        (("--devices", "cpu,0"), "mixes CPUs and GPUs"),
        (("--devices", "tpu"), "'tpu' is no device"),
        (("--devices", "3-1"), "counts down"),
        (("--address", "here:1"), "needs --engine ray"),
        (("--workers", "2"), "needs --engine ray"),
        (("--engine", "slurm"), "use local or ray"),
        (("--engine", "ray", "--devices", "cpu"), "is for one machine"),
        (("--engine", "ray", "--shard", "1/2"), "--shard is for jobs without a cluster"),
        (("--log-format", "xml"), "use text or json"),
    ],
)
def test_options_that_fit_nothing(model: str, words: tuple[str, ...], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        run("generate", "--model", model, "--prompt", "a", *words)


def test_a_server_is_not_spread() -> None:
    with pytest.raises(ConfigError, match="behind a server, which does the work itself"):
        spread("generate", "--model", "openai:x", "--base-url", "http://localhost:1/v1",
               "--prompt", "a", "--max-requests", "1")  # fmt: skip


def test_devices_by_name() -> None:
    assert worker_devices("cpu,cpu") == ("cpu", "cpu")
    assert worker_devices("auto")  # at least one, whatever there is


def test_moments_by_group_are_those_of_one_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(90, 6)).astype(np.float32), rng.integers(0, 5, 90)
    keys = [f"{number:064x}" for number in range(90)]
    table = FeatureStore(tmp_path).open({"network": "none"}, 6)
    table.add(keys, features)
    from evalkit.features.store import StoredSet

    where = SpreadOptions(devices=("cpu", "cpu"))
    found = GroupedMoments.of_groups(
        group_workers.grouped_moments(
            StoredSet(table, keys),
            codes,
            5,
            open_pool=lambda work, most: pool_opener(work, where)(most),
            worker_timeout_s=60,
        )
    )
    alone = GroupedMoments.of_features(features, codes, 5)
    for one, other in zip(found.groups, alone.groups, strict=True):
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.scatter, other.scatter)
