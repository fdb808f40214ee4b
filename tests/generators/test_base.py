"""What a user types about a cascade ends up in the right stage, or is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalkit.core.errors import ConfigError
from generators.base import GeneratorSpec, StageSettings, StageSpec, resolve_settings

SAMPLERS = ("ancestral", "ddim")


def spec(conditioning: str = "text") -> GeneratorSpec:
    guidance = None if conditioning == "none" else 3.0
    return GeneratorSpec(
        name="cascade:test",
        display_name="Cascade",
        conditioning=conditioning,  # type: ignore[arg-type]
        stages=(
            StageSpec(
                name="base",
                defaults=StageSettings(steps=100, sampler="ancestral", guidance=guidance),
                samplers=SAMPLERS,
                max_steps=1000,
            ),
            StageSpec(
                name="sr1",
                defaults=StageSettings(
                    steps=27,
                    sampler="ddim",
                    options={"threshold": "dynamic", "aug_level": 0.1, "round": False},
                ),
                choices={"threshold": ("dynamic", "static")},
                ranges={"aug_level": (0, 1)},
                samplers=SAMPLERS,
                max_steps=1000,
            ),
        ),
        size_px=64,
        training_data=(),
        weights="none",
        weights_sha256="none",
    )


def test_nothing_typed_leaves_the_defaults() -> None:
    assert resolve_settings(spec()) == spec().default_settings()


def test_a_bare_value_goes_to_the_first_stage_that_has_the_setting() -> None:
    settings = resolve_settings(spec(), guidance="1.5", steps="50", sampler="ddim")
    assert settings["base"] == StageSettings(steps=50, sampler="ddim", guidance=1.5)
    assert settings["sr1"] == spec().default_settings()["sr1"]


def test_stages_are_set_by_name() -> None:
    settings = resolve_settings(spec(), steps="base=20, sr1=5")
    assert (settings["base"].steps, settings["sr1"].steps) == (20, 5)


def test_options_keep_their_type_and_the_other_options() -> None:
    settings = resolve_settings(spec(), options="threshold=static, sr1.aug_level=0.3,round=yes")
    assert settings["sr1"].options == {"threshold": "static", "aug_level": 0.3, "round": True}
    assert settings["base"] == spec().default_settings()["base"]


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ({"guidance": "sr1=3"}, "no guidance for stage 'sr1'; stages with guidance: base"),
        ({"guidance": "much"}, "must be a number, got 'much'"),
        ({"guidance": "-1"}, "must be 0 to 100"),
        ({"guidance": "nan"}, "must be 0 to 100"),
        ({"steps": "0"}, "must be 1 to 1000"),
        ({"steps": "2000"}, "must be 1 to 1000"),
        ({"steps": "2.5"}, "whole number"),
        ({"steps": "sr2=5"}, "no steps for stage 'sr2'"),
        ({"sampler": "magic"}, "it has: ancestral, ddim"),
        ({"options": "sr1.aug_level=2"}, "--set sr1.aug_level must be 0 to 1, got 2"),
        ({"options": "aug_level=nan"}, "must be 0 to 1, got nan"),
        ({"options": "aug_level=much"}, "must be a number, got 'much'"),
        ({"options": "threshold=none"}, "must be dynamic or static, got 'none'"),
        ({"options": "round=perhaps"}, "must be true, yes, false or no"),
        ({"options": "threshold"}, "--set takes NAME=VALUE or STAGE.NAME=VALUE"),
        (
            {"options": "base.threshold=static"},
            "no option 'base.threshold'; it has: sr1.threshold, sr1.aug_level, sr1.round",
        ),
    ],
)
def test_what_a_model_can_not_do_is_said(typed: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_settings(spec(), **typed)
    assert complaint in str(caught.value)


def test_an_unconditional_model_has_no_guidance() -> None:
    with pytest.raises(ConfigError, match=r"no guidance \(it is unconditional\); it has: sampler"):
        resolve_settings(spec("none"), guidance="3")


def test_a_text_option_ends_where_the_next_option_begins() -> None:
    words = StageSpec(
        name="base",
        defaults=StageSettings(options={"eta": 0.0}),
        undecided={"negative_prompt": str, "height": int},
    )
    plain = replace(spec(), stages=(words,))
    for text in (
        "negative_prompt=blurry, dark=grey, old,eta=0.5",
        ["eta=0.5", "negative_prompt=blurry, dark=grey, old"],
    ):
        found = resolve_settings(plain, options=text)["base"].options
        assert found == {"eta": 0.5, "negative_prompt": "blurry, dark=grey, old"}
    assert "height" not in resolve_settings(plain)["base"].options
    assert resolve_settings(plain, options="height=64")["base"].options["height"] == 64
    with pytest.raises(ConfigError, match=r"--set base\.height must be a whole number"):
        resolve_settings(plain, options="height=tall")
