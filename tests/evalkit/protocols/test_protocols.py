"""What a protocol is, what it decides, and what a single option changes of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packages import install_package

from evalkit.catalog import DATASETS
from evalkit.commands.listing import show
from evalkit.core.errors import ConfigError, MissingDataError, UnknownNameError
from evalkit.datasets.base import SELECTION_RULE
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import Preparation
from evalkit.measurement import at_own_size, drawn_otherwise, run_departures
from evalkit.metrics.clip_score import VARIANTS
from evalkit.options import MeasureOptions
from evalkit.protocols import catalog
from evalkit.protocols.applying import options_for, under
from evalkit.protocols.catalog import PROTOCOLS, UNNAMED, open_protocol, protocol_for
from evalkit.protocols.model import CLIP_SCALES

FOLDER = Path(catalog.__file__).parent
IMAGEN = (FOLDER / "imagen-30k.toml").read_text("utf-8")


def test_every_file_has_a_row_and_bears_its_name() -> None:
    assert {path.name for path in FOLDER.glob("*.toml")} == set(PROTOCOLS.values())
    for name in PROTOCOLS:
        protocol = open_protocol(name)
        assert protocol.name == name
        assert protocol.dataset in DATASETS


def test_imagen_30k_is_what_coco_meant_before_there_were_protocols() -> None:
    options = options_for("coco", MeasureOptions())
    assert reference_preparation(options) == Preparation(
        crop="center", size_px=256, filter="bicubic"
    )
    assert sample_preparation(options) == Preparation()
    assert (options.features, options.resize, options.clip_model) == (
        "inception", "tf1", "ViT-L/14",
    )  # fmt: skip
    assert open_protocol("imagen-30k").captions.count == 30_000
    assert (options.protocol, options.overrides) == ("imagen-30k", ())


def test_shapes_1k_measures_images_as_they_are_by_the_judge() -> None:
    options = options_for("shapes", MeasureOptions())
    assert reference_preparation(options) == Preparation()
    assert (options.features, options.clip_model) == ("shapes-clip", "shapes-clip")
    assert options.default_metrics == ("fd", "clip-score", "composition")
    assert options.protocol == "shapes-1k"


def test_any_other_data_set_is_prepared_as_coco_and_has_no_protocol() -> None:
    options = options_for("somebody's", MeasureOptions())
    assert reference_preparation(options) == Preparation(crop="center", size_px=256)
    assert (options.protocol, options.overrides) == ("", ())
    assert protocol_for("somebody's").captions.count == 1_000


def test_images_that_are_no_data_set_are_taken_as_they_are() -> None:
    assert reference_preparation(options_for(None, MeasureOptions())) == Preparation()
    named = options_for(None, MeasureOptions(protocol="imagen-30k"))
    assert reference_preparation(named).size_px == 256


@pytest.mark.parametrize(
    ("given", "preparation", "overrides"),
    [
        ({"crop": "squash"}, Preparation(crop="squash", size_px=256), ("reference.crop",)),
        ({"size_px": 64}, Preparation(crop="center", size_px=64), ("reference.size_px",)),
        (
            {"filter": "box"},
            Preparation(crop="center", size_px=256, filter="box"),
            ("reference.filter",),
        ),
        ({"typed": frozenset({"crop"})}, Preparation(), ("reference.crop", "reference.size_px")),
        (
            {"typed": frozenset({"crop"}), "size_px": 8},
            Preparation(size_px=8),
            ("reference.crop", "reference.size_px"),
        ),
    ],
)
def test_single_options_override_fields_and_are_named(
    given: dict[str, Any], preparation: Preparation, overrides: tuple[str, ...]
) -> None:
    options = options_for("coco", MeasureOptions(**given))
    assert reference_preparation(options) == preparation
    assert options.overrides == overrides


def test_a_crop_without_a_size_is_resized_where_nothing_names_one() -> None:
    cropped = options_for(None, MeasureOptions(crop="center"))
    assert reference_preparation(cropped) == Preparation(crop="center", size_px=256)
    with pytest.raises(ConfigError, match="--crop squash needs --size"):
        reference_preparation(MeasureOptions(crop="squash"))


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("features", "dinov2", "extractor.name"), ("resize", "clean", "extractor.resize"),
        ("clip_model", "ViT-B/16", "clip.model"), ("clip_variant", "hessel", "clip.variant"),
        ("clip_prefix", "a ", "clip.prefix"), ("sample_crop", "center", "samples.crop"),
        ("sample_size_px", 16, "samples.size_px"),
    ],
)  # fmt: skip
def test_each_decision_can_be_overridden(field: str, value: Any, name: str) -> None:
    for dataset in ("coco", "shapes"):
        options = options_for(dataset, MeasureOptions(**{field: value}))
        assert getattr(options, field) == value
        assert name in options.overrides
        assert name in open_protocol(options.protocol).values()


def test_another_definition_of_clip_score_brings_its_own_prefix() -> None:
    options = options_for("coco", MeasureOptions(clip_variant="hessel"))
    assert options.clip_prefix is None
    kept = options_for("coco", MeasureOptions(clip_variant="hessel", clip_prefix=""))
    assert kept.clip_prefix == ""


@pytest.mark.parametrize("metric", ["fid", "is"])
def test_a_metric_of_inception_names_the_features(metric: str) -> None:
    asked = options_for("shapes", MeasureOptions(metrics=("clip-score", metric)))
    assert (asked.features, asked.overrides) == ("inception", ("extractor.name",))
    assert options_for("shapes", MeasureOptions(metrics=("kid",))).features == "shapes-clip"


@pytest.mark.parametrize(
    "given", [{"inception_layer": "64"}, {"inception_weights": Path("w.pth")}, {"resize": "clean"}]
)
def test_an_option_of_inception_names_the_features(given: dict[str, Any]) -> None:
    assert options_for("shapes", MeasureOptions(**given)).features == "inception"
    kept = MeasureOptions(features="shapes-clip", **given)
    assert options_for("shapes", kept).features == "shapes-clip"


def test_options_that_no_protocol_decides_stay() -> None:
    given = MeasureOptions(kid_subsets=3, seed=4, level=0.9, device="cuda")
    options = under(open_protocol("shapes-1k"), given)
    assert (options.kid_subsets, options.seed, options.level, options.device) == (3, 4, 0.9, "cuda")


def test_scales_of_clip_score_are_those_of_the_metric() -> None:
    assert tuple(CLIP_SCALES) == VARIANTS


def mine(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = IMAGEN.replace('name = "imagen-30k"', 'name = "mine"', 1)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_is_a_protocol(tmp_path: Path) -> None:
    path = mine(tmp_path, ("size_px = 256", "size_px = 299"), ("count = 30000", "count = 7"))
    protocol = open_protocol(str(path))
    assert protocol.captions.count == 7
    options = options_for("shapes", MeasureOptions(protocol=str(path)))
    assert (options.protocol, options.size_px) == ("mine", 299)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("count = 30000", "count = 0", "captions.count"),
        ("count = 30000", 'count = "many"', "captions.count"),
        ("count = 30000", "count = 30000\ncounts = 1", "captions.counts"),
        ("count = 30000\n", "", "captions.count"),
        ('crop = "center"', 'crop = "circle"', "reference.crop"),
        ("scale = 100.0", "scale = 2.5", "clip.scale is 2.5"),
        ('"captions.count" = ', '"captions.number" = ', "'captions.number', which is no value"),
        ('"clip.scale" = ', '# "clip.scale" = ', "where 'clip.scale' is stated"),
        ('name = "mine"', 'name = "imagen-30k"', "belongs to a protocol"),
        ('name = "mine"', f'name = "{UNNAMED}"', "belongs to a protocol"),
        ("[captions]", "[captions", "not a TOML file of a protocol"),
        ('metrics = ["fid", "clip-score"]', "metrics = []", "metrics"),
        ('metrics = ["fid", "clip-score"]', 'metrics = ["fdi"]', "did you mean 'fd'"),
        ('metrics = ["fid", "clip-score"]', 'metrics = ["fid", "fid"]', "names one twice"),
        ('resize = "tf1"', 'resize = "qqq"', "extractor.resize"),
        ('crop = "center"\nsize_px = 256', 'crop = "squash"', "'squash' needs reference.size_px"),
        ("count = 30000", "count = " + 5_000 * "9", "not a TOML file of a protocol"),
        ("count = 30000", "count = 30000\n" + 300 * "x" + " = 1", "captions.xxx"),
        ('name = "mine"', 'name = "imagen-30k\\n"', "name"),
        ('name = "mine"', 'name = "Mine"', "name"),
        ('name = "mine"', 'name = "' + 61 * "m" + '"', "name"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    path = mine(tmp_path, (before, after))
    with pytest.raises(ConfigError) as caught:
        open_protocol(str(path))
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


def test_protocols_of_one_name_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    first = open_protocol(str(mine(tmp_path)))
    other = open_protocol(str(mine(tmp_path, ("seed = 0", "seed = 1"))))
    assert first.name == other.name
    assert first.sha256 != other.sha256
    marks = options_for("coco", MeasureOptions(protocol=str(tmp_path / "mine.toml")))
    assert marks.protocol_marks()["protocol_sha256"] == other.sha256


def test_what_was_drawn_otherwise_is_named() -> None:
    protocol = open_protocol("shapes-1k")
    config = {
        "seed": 3,
        "dataset": {"n": 20, "selection": "prompts as given, in turns", "name": "prompts"},
    }
    assert run_departures(protocol, "coco", config) == (
        "dataset", "captions.count", "captions.draw", "captions.seed",
    )  # fmt: skip
    as_stated = {"seed": 0, "dataset": {"n": 1_000, "selection": SELECTION_RULE}}
    assert run_departures(protocol, "shapes", as_stated) == ()
    assert drawn_otherwise(None, dataset=None, count=3) == ()


def test_another_packages_data_set_needs_no_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "from evalkit.catalog import DatasetRow\nROW = DatasetRow(target='m:f', summary='s'{})\n"
    install_package(
        tmp_path,
        monkeypatch,
        modules={"lab_plain": row.format(""), "lab_named": row.format(", protocol='gone'")},
        entry_points={
            "evalkit.datasets": {"lab/plain": "lab_plain:ROW", "lab/named": "lab_named:ROW"}
        },
    )
    assert protocol_for("lab/plain").name == UNNAMED
    with pytest.raises(UnknownNameError, match="Unknown protocol 'gone'"):
        protocol_for("lab/named")
    show("datasets")


def test_a_named_protocol_keeps_its_size_for_models_without_captions() -> None:
    config = {"conditioning": "none", "size_px": 16}
    assert at_own_size(MeasureOptions(), config).size_px == 16
    assert at_own_size(MeasureOptions(protocol="imagen-30k"), config).size_px is None


def test_a_name_that_nobody_knows_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'imagen-30k'"):
        open_protocol("imagen-30")
    with pytest.raises(MissingDataError, match="no such file"):
        open_protocol("nowhere.toml")


def test_every_value_says_where_it_is_stated() -> None:
    document = tomllib.loads(IMAGEN)
    protocol = open_protocol("imagen-30k")
    assert set(document["sources"]) == set(protocol.values())
    assert "captions.draw" in protocol.our_choices
    assert "captions.count" not in protocol.our_choices
