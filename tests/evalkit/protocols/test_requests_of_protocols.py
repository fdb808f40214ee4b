"""What a protocol asks of a model: classes by its own draw, categories, and enough captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
from evalkit.core.errors import ConfigError
from evalkit.core.results import read_records
from evalkit.core.run import RunFolder
from evalkit.datasets.classes import drawn_class_requests
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.features.sources import ImageItem
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions
from evalkit.protocols import catalog
from tests.evalkit.analyses.conftest import squares

FOLDER = Path(catalog.__file__).parent


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 0, 12, 0)
    return folder


def changed(tmp_path: Path, name: str, *changes: tuple[str, str]) -> Path:
    text = (FOLDER / f"{name}.toml").read_text("utf-8").replace(f'"{name}"', '"mine"', 1)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "draw"), [("adm-in64-50k", "uniform classes"), ("dmd2-in64-50k", "classes in turn")]
)
def test_classes_are_drawn_by_the_protocol(
    tmp_path: Path, shapes: Path, name: str, draw: str
) -> None:
    out = tmp_path / "run"
    protocol = changed(tmp_path, name, ("count = 50000", "count = 5"))
    words = [
        "generate", "--model", "ddpm:tiny-class", "--data", shapes, "--protocol", protocol,
        "--steps", "2", "--device", "cpu", "--out", out,
    ]  # fmt: skip
    cli.app([str(word) for word in words], standalone_mode=False)
    run = RunFolder.read(out)
    labels = [row.label for row in run.rows()]
    from generators.catalog import load_generator

    model = load_generator("ddpm:tiny-class", device="cpu", weights={}, bf16=False, compiled=False)
    assert model.spec.num_classes is not None
    seed = 10 if name == "dmd2-in64-50k" else 0
    wanted = drawn_class_requests(draw, 5, num_classes=model.spec.num_classes, seed=seed)
    assert labels == [request.label for request in wanted]
    assert run.config["dataset"]["selection"].startswith(draw)


def test_a_protocol_of_classes_takes_no_captions(tmp_path: Path, shapes: Path) -> None:
    words = [
        "generate", "--model", "glide:tiny", "--data", shapes, "--protocol", "adm-in64-50k",
        "--out", tmp_path / "run",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="takes captions, but the protocol adm-in64-50k has none"):
        cli.app([str(word) for word in words], standalone_mode=False)


def test_too_few_captions_are_refused(tmp_path: Path, shapes: Path) -> None:
    words = [
        "generate", "--model", "glide:tiny", "--data", shapes, "--protocol", "shapes-1k",
        "--out", tmp_path / "run",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"has 60 captions, but shapes-1k draws 1,000") as caught:
        cli.app([str(word) for word in words], standalone_mode=False)
    assert "\n" not in str(caught.value)


SETTINGS = """[settings]
by_category = true

[sources]
"settings.by_category" = "evalkit"
"""


def test_categories_are_measured_on_their_own(tmp_path: Path) -> None:
    """Overall and by category, each against the reference images of that category."""
    real, fake = tmp_path / "mjhq", squares(tmp_path / "fake", 8, 64)
    meta, rows = {}, []
    for number, path in enumerate(sorted(fake.iterdir())):
        category = "food" if number % 2 else "art"
        (real / "imgs" / category).mkdir(parents=True, exist_ok=True)
        shifted = np.roll(np.asarray(Image.open(path)), 9, axis=0)
        Image.fromarray(shifted).save(real / "imgs" / category / f"k{number}.jpg")
        meta[f"k{number}"] = {"prompt": f"prompt {number}", "category": category}
        rows.append({"file_name": path.name, "text": f"prompt {number}", "category": category})
    (real / "meta_data.json").write_text(json.dumps(meta))
    (fake / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    changes = (("count = 1000", "count = 8"), ("[sources]\n", SETTINGS))
    protocol, found = changed(tmp_path, "shapes-1k", *changes), tmp_path / "r.json"
    words = ["score", fake, "--against", real, "--protocol", protocol, "--metrics", "fd"]
    cli.app([str(word) for word in (*words, "--json", found)], standalone_mode=False)
    by_subject = {r.subject: r for r in read_records(found) if r.metric == "fd"}
    assert set(by_subject) == {"fake", "fake, art", "fake, food"}
    assert [by_subject[name].n for name in ("fake", "fake, art")] == [8, 4]
    assert by_subject["fake, food"].fingerprint["num_reference"] == 4
    alone = [ImageItem(path) for path in sorted(fake.glob("*.png"))[1::2]]
    against = [ImageItem(path) for path in sorted((real / "imgs" / "food").iterdir())]
    options = MeasureOptions(features="shapes-clip")
    (first, *_) = score_sets(alone, against, ["fd"], options)
    assert by_subject["fake, food"].value == pytest.approx(first.value, rel=1e-5)
