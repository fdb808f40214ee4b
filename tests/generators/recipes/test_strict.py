"""Recipes are read strictly all the way, before any data is drawn."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from evalkit.commands import train as train_command
from evalkit.core.errors import ConfigError, EvalkitError
from generators.recipes.catalog import CATALOG, RECIPES
from generators.recipes.objectives import OBJECTIVES
from generators.recipes.recipe import load_recipe
from generators.training.loop import build_trainee
from generators.training.networks import NETWORKS


def dumped(table: dict[str, Any]) -> str:
    """Write the few types that recipes have as TOML."""

    def value(one: Any) -> str:
        if isinstance(one, bool):
            return str(one).lower()
        if isinstance(one, dict):
            return "{" + ", ".join(f"{k} = {value(v)}" for k, v in one.items()) + "}"
        return repr(one) if not isinstance(one, str) else '"' + one + '"'

    return "".join(f"{key} = {value(one)}\n" for key, one in table.items())


def changed(recipe_name: str, tmp_path: Path, /, **changes: Any) -> Path:
    """A copy of a recipe with some values set, by `table__key`; None removes the key."""
    recipe = tomllib.loads(CATALOG[recipe_name].path().read_text())
    for path, value in changes.items():
        *tables, key = path.split("__")
        table = recipe
        for part in tables:
            table = table[part]
        if value is None:
            del table[key]
        else:
            table[key] = value
    file = tmp_path / "recipe.toml"
    file.write_text(dumped(recipe))
    return file


def test_every_network_has_a_checked_objective() -> None:
    assert set(OBJECTIVES) == set(NETWORKS)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_our_recipes_pass(name: str) -> None:
    load_recipe(name)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("glide-tiny-base", {"objective__caption_droput": 0.1}, "unknown key objective.caption_dr"),
        ("ddpm-tiny", {"objective__predict": "v"}, "known: prediction, schedule, timestep_focus"),
        ("imagen-tiny-sr1", {"objective__prediction": "vv"}, "objective.prediction: .* got 'vv'"),
        ("dalle-tiny-dvae-first", {"objective__tau_steps": "many"}, "objective.tau_steps"),
        ("dalle-tiny-dvae-first", {"objective__kl_weight": None}, "objective.kl_weight is missing"),
        (
            "clip-tiny",
            {"objective": {"schedule": "cosine"}},
            "known: bound, exchanged, opposites, told",
        ),
        ("unclip-tiny-prior", {"objective__prediction": "eps"}, "unknown key objective.prediction"),
        ("unclip-tiny-sr1", {"objective__degradation": "jpeg"}, "'blur' or 'bsr'"),
        ("ddpm-tiny", {"objective__timestep_focus": [0.1]}, "objective.timestep_focus"),
        ("ddpm-tiny", {"objective__schedule": "sigmoid"}, "objective.schedule"),
        ("ddpm-tiny", {"optimizer__learning_rate": float("inf")}, "optimizer.learning_rate"),
        ("ddpm-tiny", {"optimizer__learning_rate": float("nan")}, "optimizer.learning_rate"),
        ("ddpm-tiny", {"optimizer__gradient_clip": float("inf")}, "optimizer.gradient_clip"),
        ("ddpm-tiny", {"optimizer__steps": 1.5}, "optimizer.steps"),
        ("ddpm-tiny", {"optimizer__step": 1}, "unknown key optimizer.step; known: .*steps"),
        ("ddpm-tiny", {"data__num_images": 10**12}, "data.num_images"),
        ("ddpm-tiny", {"data__split": "val"}, "data.split"),
        ("ddpm-tiny", {"seed": 2**63}, "seed"),
        ("ddpm-tiny", {"name": "../elsewhere"}, "name: String should match"),
    ],
)
def test_the_file_is_refused_with_the_key_and_the_value(
    name: str, changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_recipe(str(changed(name, tmp_path, **changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b"", b"name = 'x'\n"])
def test_any_other_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        load_recipe(str(file))


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        (
            "glide-tiny-upsampler-first",
            {"objective__crop_px": 999},
            "crop_px must be a multiple of 4",
        ),
        (
            "glide-tiny-upsampler-first",
            {"objective__crop_px": 30},
            "crop_px must be a multiple of 4",
        ),
        ("imagen-tiny-sr1-first", {"objective__low_res_px": 24}, "low_res_px must divide"),
        ("unclip-tiny-sr2", {"objective__low_res_px": 64}, "and be smaller, got 64"),
        ("glide-tiny-base-first", {"model__image_size": 63}, "image_size must divide 64"),
        ("imagen-tiny-base-first", {"model__image_size": 128}, "image_size must divide 64"),
        ("ddpm-tiny", {"model__image_size": 63}, "image_size must divide 64"),
        ("clip-tiny-first", {"model__image_size": 32}, "image_size must be 64"),
        ("clip-tiny-first", {"model__patch_size": 7}, "not a multiple of patch_size"),
        ("ddpm-tiny", {"model__image_size": 1}, "sizes don't fit together"),
        ("glide-tiny-base-first", {"model__n_vocab": 10}, "sizes don't fit together"),
        ("imagen-tiny-sr1-first", {"model__text_width": 64}, "sizes don't fit together"),
        ("ddpm-tiny", {"model__num_res_blocks": 0}, "num_res_blocks must be positive"),
        ("ddpm-tiny", {"model__model_channels": "32"}, "model_channels: .* got '32'"),
        ("ddpm-tiny", {"model__model_channel": 32}, "Unknown settings of a U-Net"),
        ("unclip-tiny-prior", {"model__heads": 0}, "heads must be positive"),
        ("imagen-tiny-t5-first", {"model__d_modle": 8}, "Unknown settings of a T5"),
        ("glide-tiny-base-first", {"model__xf_width": 0}, "base reads captions"),
        (
            "dalle-tiny-transformer-first",
            {"objective__dvae": "no-such"},
            "no-such are not included in evalkit. Give a name of generators/zoo, or a file",
        ),
        (
            "dalle-tiny-transformer-first",
            {"objective__dvae": "dalle-tiny-dvae-second"},
            r"Give the file that evalkit train dalle-tiny-dvae-second writes",
        ),
    ],
)
def test_what_can_not_be_trained_is_refused_before_data_is_drawn(
    name: str,
    changes: dict[str, Any],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drawn(*arguments: object, **options: object) -> None:
        pytest.fail("data were drawn")

    monkeypatch.setattr(train_command, "shapes_training_set", drawn)
    file = changed(name, tmp_path, **changes)
    with pytest.raises(EvalkitError, match=complaint) as caught:
        train_command.train(str(file), out=tmp_path / "out", steps=None, start=None, cpu=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("ddpm-tiny-class", {"data__kinds": {"count": 1.0}}, "single = 1.0"),
        ("ddpm-tiny-class", {"model__num_classes": 3}, "shapes has 7 classes"),
        ("ddpm-tiny-classifier", {"model__out_channels": 2}, "shapes has 7 classes"),
        ("imagen-tiny-base", {"start_from": "no-such-recipe"}, "no-such-recipe"),
    ],
)
def test_so_is_what_the_data_can_not_give(
    name: str, changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    file = changed(name, tmp_path, data__num_images=10_000_000, **changes)
    with pytest.raises(EvalkitError, match=complaint):
        train_command.train(str(file), out=tmp_path / "out", steps=None, start=None, cpu=True)


def test_trying_a_recipe_changes_nothing() -> None:
    """Building twice gives the same weights: the trial step draws from a generator of its own."""
    first, second = (build_trainee(load_recipe("ddpm-tiny")) for _ in range(2))
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name]), name
