"""What a protocol is, what it decides, and what a single option changes of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from evalkit.catalog import DATASETS
from evalkit.core.errors import ConfigError, MissingDataError, UnknownNameError
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import Preparation
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
        ({"crop": "squash"}, Preparation(crop="squash", size_px=256), ("crop",)),
        ({"size_px": 64}, Preparation(crop="center", size_px=64), ("size_px",)),
        ({"filter": "box"}, Preparation(crop="center", size_px=256, filter="box"), ("filter",)),
        ({"typed": frozenset({"crop"})}, Preparation(), ("crop", "size_px")),
        (
            {"typed": frozenset({"crop"}), "size_px": 8},
            Preparation(size_px=8),
            ("crop", "size_px"),
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
    ("field", "value"),
    [
        ("features", "dinov2"), ("resize", "clean"), ("clip_model", "ViT-B/16"),
        ("clip_variant", "hessel"), ("clip_prefix", "a "), ("sample_crop", "center"),
        ("sample_size_px", 16),
    ],
)  # fmt: skip
def test_each_decision_can_be_overridden(field: str, value: Any) -> None:
    for dataset in ("coco", "shapes"):
        options = options_for(dataset, MeasureOptions(**{field: value}))
        assert getattr(options, field) == value
        assert field in options.overrides


def test_another_definition_of_clip_score_brings_its_own_prefix() -> None:
    options = options_for("coco", MeasureOptions(clip_variant="hessel"))
    assert options.clip_prefix is None
    kept = options_for("coco", MeasureOptions(clip_variant="hessel", clip_prefix=""))
    assert kept.clip_prefix == ""


@pytest.mark.parametrize("metric", ["fid", "is"])
def test_a_metric_of_inception_names_the_features(metric: str) -> None:
    asked = options_for("shapes", MeasureOptions(metrics=("clip-score", metric)))
    assert (asked.features, asked.overrides) == ("inception", ("features",))
    assert options_for("shapes", MeasureOptions(metrics=("kid",))).features == "shapes-clip"


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
        ('name = "mine"', 'name = "imagen-30k"', "is taken"),
        ('name = "mine"', f'name = "{UNNAMED}"', "is taken"),
        ("[captions]", "[captions", "can't be read as TOML"),
        ('metrics = ["fid", "clip-score"]', "metrics = []", "metrics"),
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
