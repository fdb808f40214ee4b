"""A matrix: each column equals a score of its own, and images are decoded once per preparation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalkit import cli
from evalkit.analyses import matrix as module
from evalkit.analyses.columns import VARIATIONS, Column, protocol_columns, variation_columns
from evalkit.analyses.matrix import measure_matrix
from evalkit.core.errors import ConfigError
from evalkit.core.results import read_records
from evalkit.features import decoding
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import image_items
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions

LARGEST_DIFFERENCE = 1e-9
"""What the issue allows between a column and a score with the same options."""


def columns_for(weights: Path, num_samples: int) -> list[Column]:
    options = MeasureOptions(inception_weights=weights, inception_layer="64", batch_size=8)
    names = ["imagen-30k", "gigagan-30k", "bksdm-30k", "mlperf-5k", "heim-30k"]
    columns, left_out = protocol_columns(names, options, num_samples=num_samples, matchable=False)
    assert list(left_out) == ["heim-30k"]
    kinds = ["crop", "filter", "size", "reference-format", "sample-format", "resize", "reference"]
    return [*columns, *variation_columns(columns[0], kinds, matchable=False)]


def test_each_column_equals_a_score_with_the_same_options(
    crops: tuple[Path, Path], inception_weights: Path, tmp_path: Path
) -> None:
    samples, reference = (image_items(path) for path in crops)
    columns = columns_for(inception_weights, len(samples))
    assert len(columns) > 12
    found = measure_matrix(samples, reference, columns)
    assert set(found.records) == {column.name for column in columns}
    values = set()
    for place, column in enumerate(columns):
        store = tmp_path / str(place)
        options = MeasureOptions(**{**vars(column.options), "store": store})
        alone = score_sets(samples, reference, ["fid"], options)
        for mine, theirs in zip(found.records[column.name], alone, strict=True):
            assert mine.metric == theirs.metric
            if theirs.value is None:
                assert mine.value is None
                continue
            assert mine.value is not None
            assert abs(mine.value - theirs.value) <= LARGEST_DIFFERENCE
        assert found.records[column.name][0].subject == column.name
        values.add(found.records[column.name][0].value)
    assert len(values) > 10, "what is varied changes the number"


def test_each_image_is_decoded_once_per_preparation(
    crops: tuple[Path, Path], inception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, reference = (image_items(path) for path in crops)
    columns = columns_for(inception_weights, len(samples))
    decoded: Counter[tuple[str, str]] = Counter()
    load_image = decoding.load_image

    def counted(item: Any, preparation: Any) -> Any:
        decoded[item.name, str(preparation.identity())] += 1
        return load_image(item, preparation)

    monkeypatch.setattr(decoding, "load_image", counted)
    measure_matrix(samples, reference, columns)
    assert set(decoded.values()) == {1}
    preparations = {str(sample_preparation(c.options).identity()) for c in columns}
    others = {str(reference_preparation(c.options).identity()) for c in columns}
    assert len(decoded) == len(samples) * len(preparations) + len(reference) * len(others)


def test_one_network_serves_every_resizing(
    crops: tuple[Path, Path], inception_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = module.load_extractor

    def counted(*arguments: Any) -> Any:
        loads.append(arguments[0])
        return load(*arguments)

    monkeypatch.setattr(module, "load_extractor", counted)
    samples, reference = (image_items(path)[:6] for path in crops)
    options = MeasureOptions(inception_weights=inception_weights, inception_layer="64")
    columns, _ = protocol_columns(["imagen-30k"], options, num_samples=6, matchable=False)
    columns += variation_columns(columns[0], ["resize"], matchable=False)
    found = measure_matrix(samples, reference, columns)
    assert loads == ["inception"]
    assert len({records[0].value for records in found.records.values()}) == 4


def test_variations_change_one_thing(inception_weights: Path) -> None:
    options = MeasureOptions(inception_weights=inception_weights)
    (base,), _ = protocol_columns(["imagen-30k"], options, num_samples=5, matchable=True)
    assert base.options.images_short == "5 of 30,000"
    found = variation_columns(base, VARIATIONS, matchable=True, lacking=["dinov2", "ViT-B/32"])
    names = [column.name for column in found]
    assert "imagen-30k, crop squash" in names
    assert "imagen-30k, reference matched" in names
    assert "imagen-30k, crop center" not in names, "it is the base"
    assert "imagen-30k, sample-format png" not in names or all(
        column.computation() != base.computation() for column in found
    )
    with pytest.raises(ConfigError, match="Unknown variation 'colour'"):
        variation_columns(base, ["colour"], matchable=True)


def test_the_command_writes_a_table_and_a_plot(
    crops: tuple[Path, Path], inception_weights: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "160")
    samples, reference = crops
    html, found = tmp_path / "m.html", tmp_path / "m.json"
    words = [
        "matrix", samples, "--against", reference, "--protocols", "imagen-30k,heim-30k,dalle-30k",
        "--vary", "crop", "--inception-weights", inception_weights, "--inception-layer", "64",
        "--html", html, "--json", found,
    ]  # fmt: skip
    cli.app([str(word) for word in words], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "imagen-30k, crop squash" in shown
    assert "dalle-30k, blur 8 px" in shown
    assert "Left out heim-30k: its reference is matched to captions" in shown
    assert "13 of 19; 24 of 30,000" in shown
    assert {r.subject for r in read_records(found)} >= {"imagen-30k", "dalle-30k"}
    page = html.read_text("utf-8")
    assert "imagen-30k, crop squash" in page
    assert "<svg" in page
    words[words.index("imagen-30k,heim-30k,dalle-30k")] = "heim-30k"
    with pytest.raises(ConfigError, match="No protocol can measure"):
        cli.app([str(word) for word in words], standalone_mode=False)
