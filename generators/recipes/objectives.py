"""What each network's training takes under `[objective]`: names, types and ranges, read strictly.

The trainings read the recipe's own table; these models only check it, so that a misspelt key or a
prediction that does not exist is an error before anything is drawn or built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Scheduled(_Objective):
    schedule: Literal["linear", "cosine"]


class _Predicting(_Scheduled):
    prediction: Literal["eps", "x_0", "v"] = "eps"


Focus = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Focused(_Objective):
    weight_cap: Positive = 1.0
    timestep_focus: Focus | None = None


class _Upsampling(_Predicting):
    low_res_px: Count
    crop_px: Count
    residual_scale: Positive | None = None


Words = Annotated[list[Annotated[str, Field(pattern=r"^[a-z ]+$")]], Field(min_length=1)]
"""In lower case, as captions are compared."""


def _distinct(words: list[str]) -> list[str]:
    if len(set(words)) < max(2, len(words)):
        raise ValueError(f"needs at least two words, each once, got {words}")
    return words


Pair = Annotated[
    list[Annotated[Words, AfterValidator(_distinct)]], Field(min_length=2, max_length=2)
]
"""Adjectives and nouns."""


class _Contrastive(_Objective):
    exchanged: list[Words] = Field(default_factory=list)
    opposites: list[Annotated[Words, Field(min_length=2, max_length=2)]] = Field(
        default_factory=list
    )
    told: list[Words] = Field(default_factory=list)
    bound: Pair | None = None


class _NoisedContrastive(_Contrastive, _Scheduled):
    timestep_focus: Focus | None = None


Table = TypeVar("Table", bound=_Objective)


def _together(table: Table, one: str, other: str) -> Table:
    if (getattr(table, one) is None) != (getattr(table, other) is None):
        raise ValueError(f"{one} and {other} belong together: give both, or neither")
    return table


class _Bound(_Objective):
    bound: Pair | None = None
    bound_weight: Positive | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> _Bound:
        return _together(self, "bound", "bound_weight")


class _GlideBase(_Predicting, _Focused, _Bound):
    caption_dropout: Share


class _GlideUpsampler(_Upsampling):
    low_res_noise: Annotated[float, Field(ge=0)] = 0.0
    caption_dropout: Share = 0.0


class _UnclipUpsampler(_Upsampling):
    degradation: Literal["blur", "bsr"]
    degradation_share: Share = 1.0


class _DiscreteVAE(_Objective):
    tau_end: Positive
    tau_steps: Count
    kl_weight: Annotated[float, Field(ge=0)]
    kl_steps: Count
    usage_weight: Annotated[float, Field(ge=0)] = 0.0
    logit_deviation: Annotated[float, Field(ge=0)] = 0.0


class _DecodedCodes(_Objective):
    pass


class _DalleTransformer(_Bound):
    dvae: str
    bpe_dropout: Annotated[float, Field(ge=0, lt=1)]
    caption_dropout: Share = 0.0


class _CodedPrior(_Objective):
    caption_dropout: Share
    clip: str | None = None


class _DiffusedPrior(_CodedPrior, _Scheduled):
    pass


class _Decoder(_CodedPrior, _Predicting, _Focused):
    embedding_dropout: Share


class _T5(_Objective):
    noise_density: Annotated[float, Field(gt=0, lt=1)]
    mean_span: Annotated[float, Field(ge=1)]


class _TaughtT5(_Bound):
    teacher: str
    neighbours: Annotated[float, Field(ge=0)] = 0.0


class _ReadingText(_Objective):
    text_dropout: Share
    text_encoder: str | None = None


class _ImagenBase(_ReadingText, _Predicting, _Focused):
    teacher: str | None = None
    teacher_steps: Count = 1
    clip: str | None = None
    clip_guidance: Positive | None = None

    @model_validator(mode="after")
    def _clip_and_scale(self) -> _ImagenBase:
        if self.clip is not None and self.prediction != "eps":
            raise ValueError("clip_guidance changes eps: set prediction to 'eps', or leave it out")
        return _together(self, "clip", "clip_guidance")


class _ImagenUpsampler(_ReadingText, _Upsampling):
    most_noise: Annotated[float, Field(gt=0, le=1)] = 1.0
    level_power: Positive = 1.0


class _Ddpm(_Predicting, _Focused):
    pass


OBJECTIVES: Mapping[str, type[BaseModel]] = {
    "glide-base": _GlideBase,
    "glide-upsampler": _GlideUpsampler,
    "clip": _Contrastive,
    "dalle-dvae": _DiscreteVAE,
    "dalle-dvae-decoding": _DecodedCodes,
    "dalle-transformer": _DalleTransformer,
    "unclip-prior": _DiffusedPrior,
    "unclip-prior-ar": _CodedPrior,
    "unclip-decoder": _Decoder,
    "unclip-upsampler": _UnclipUpsampler,
    "imagen-t5": _T5,
    "imagen-t5-taught": _TaughtT5,
    "imagen-base": _ImagenBase,
    "imagen-upsampler": _ImagenUpsampler,
    "noised-clip": _NoisedContrastive,
    "ddpm": _Ddpm,
    "noisy-classifier": _Scheduled,
}
"""By the name in a recipe's `network`; another package's training checks its own."""


def check_objective(network: str, objective: Mapping[str, Any]) -> None:
    """Check the table of a network's objective.

    Raises:
        pydantic.ValidationError: A key is unknown or missing, or a value has another type or range.
    """
    model = OBJECTIVES.get(network)
    if model is not None:
        model(**objective)
