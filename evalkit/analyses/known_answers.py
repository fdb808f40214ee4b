"""Published values that check the tool itself: what each needs, and what it should give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit.core.results import ResultRecord


@dataclass(frozen=True, kw_only=True)
class Target:
    """One published value."""

    metric: str
    """Name of the record."""
    value: float
    tolerance: float
    """Largest difference that counts as reproduced."""


@dataclass(frozen=True, kw_only=True)
class KnownAnswer:
    """A check with published values."""

    summary: str
    targets: tuple[Target, ...]
    source: str
    cost: str
    """On an H200-class machine unless it says otherwise; our estimate, not measured."""
    needs: str
    """Files, and where from."""
    licence: str
    kind: Literal["score", "generate", "listed"]
    """`score` measures files; `generate` runs a model; `listed` can't be run by evalkit yet."""
    samples: str = ""
    """With `score`: a data set's split as `NAME:SPLIT`, or a file or folder in the cache folder
    `known`."""
    against: str = ""
    """With `score`: a data set, its split, or the name of a reference."""
    protocol: str = ""
    """What to draw and how to measure; if empty, `options` say all of it."""
    model: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    """With `generate`: fields of `RequestOptions`, where they are not the protocol's."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """With `generate`: fields of `SamplingOptions`, where they are not the model's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `MeasureOptions`, where they are not the protocol's."""
    departures: tuple[str, ...] = ()
    """What is not done as the source did it, beside what the protocol names."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out for one target."""

    target: Target
    record: ResultRecord | None
    """None where the metric gave no record."""

    @property
    def difference(self) -> float | None:
        """The value minus the published one."""
        if self.record is None or self.record.value is None:
            return None
        return self.record.value - self.target.value

    @property
    def reproduced(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference is not None and abs(self.difference) <= self.target.tolerance


def outcomes(answer: KnownAnswer, records: Sequence[ResultRecord]) -> list[Outcome]:
    """Compare records with the published values, in their order."""
    by_metric = {record.metric: record for record in records}
    return [Outcome(target=one, record=by_metric.get(one.metric)) for one in answer.targets]


def _listed(
    summary: str, targets: tuple[Target, ...], *, source: str, cost: str, needs: str, licence: str
) -> KnownAnswer:
    return KnownAnswer(
        summary=summary, targets=targets, source=source, cost=cost, needs=needs, licence=licence,
        kind="listed",
    )  # fmt: skip


def _fid(value: float, tolerance: float) -> tuple[Target, ...]:
    return (Target(metric="fid", value=value, tolerance=tolerance),)


_ADM = {
    "metrics": ("fid", "sfid", "is", "prdc"), "resize": "tf1", "neighbours": (3,),
    "is_split_size": 5000,
}  # fmt: skip
KNOWN_ANSWERS: dict[str, KnownAnswer] = {
    "glide-tiny": KnownAnswer(
        summary="the demo: glide:tiny on shapes-1k, 300 images",
        targets=(Target(metric="fd", value=0.0389, tolerance=0.002),),
        source="README.md of evalkit",
        cost="2 minutes on 2 cores",
        needs="nothing: weights and data are part of evalkit",
        licence="evalkit's",
        kind="generate",
        model="glide:tiny",
        request={"data": "shapes", "n": 300},
        options={"features": "shapes-clip", "metrics": ("fd",)},
    ),
    "real-cifar10": KnownAnswer(
        summary="CIFAR-10, training against test images, no generator",
        targets=_fid(3.1525, 0.01),
        source="w86763777/pytorch-image-generation-metrics@a3f5353",
        cost="1 minute; 2 hours on 2 cores",
        needs="the binary version of CIFAR-10 (170 MB) in EVALKIT_CIFAR10, Inception's weights",
        licence="-",
        kind="score",
        samples="cifar10:test",
        against="cifar10:train",
        options={"metrics": ("fid",), "resize": "tf1"},
    ),
    "real-cifar10-is": KnownAnswer(
        summary="Inception Score of CIFAR-10's training images",
        targets=(Target(metric="is", value=11.23678, tolerance=0.01),),
        source="torch-fidelity, documentation",
        cost="1 minute; 2 hours on 2 cores",
        needs="the binary version of CIFAR-10 (170 MB) in EVALKIT_CIFAR10, Inception's weights",
        licence="-",
        kind="score",
        samples="cifar10:train",
        against="cifar10:test",
        options={"metrics": ("is",), "resize": "tf1"},
    ),
    "adm-in64": KnownAnswer(
        summary="ADM-G's 50,000 images at 64 px against VIRTUAL_imagenet64",
        targets=(
            *_fid(2.07, 0.03),
            Target(metric="precision-k3", value=0.74, tolerance=0.01),
            Target(metric="recall-k3", value=0.63, tolerance=0.01),
        ),
        source="openai/guided-diffusion, evaluations/README.md",
        cost="2 minutes",
        needs="admnet_guided_imagenet64.npz (0.61 GB) as known/admnet_guided_imagenet64.npz in the "
        "cache; evalkit references keep imagenet64@adm VIRTUAL_imagenet64_labeled.npz",
        licence="MIT",
        kind="score",
        samples="admnet_guided_imagenet64.npz",
        against="imagenet64@adm",
        options=_ADM,
    ),
    "adm-in256": KnownAnswer(
        summary="ADM-G's and ADM-U's 50,000 images at 256 px against VIRTUAL_imagenet256",
        targets=(
            *_fid(3.9425574129, 0.02),
            Target(metric="sfid", value=6.1404337035, tolerance=0.02),
            Target(metric="is", value=215.8370361328, tolerance=0.5),
            Target(metric="precision-k3", value=0.8265, tolerance=0.01),
            Target(metric="recall-k3", value=0.5309, tolerance=0.01),
        ),
        source="openai/guided-diffusion, evaluations/README.md",
        cost="5 minutes",
        needs="admnet_guided_upsampled_imagenet256.npz (9.83 GB) under known/ in the cache; "
        "evalkit references keep imagenet256@adm VIRTUAL_imagenet256_labeled.npz",
        licence="MIT",
        kind="score",
        samples="admnet_guided_upsampled_imagenet256.npz",
        against="imagenet256@adm",
        options=_ADM,
    ),
    "gigagan": KnownAnswer(
        summary="GigaGAN's PNG files t2i_coco256 against val2014",
        targets=_fid(9.06, 0.05),
        source="mingukkang/GigaGAN@b2d3716, evaluation/README.md",
        cost="10 minutes",
        needs="the images of the archive on the authors' drive as known/t2i_coco256 in the cache; "
        "COCO (6.6 GB): evalkit data coco",
        licence="evaluation code MIT; images not stated",
        kind="score",
        samples="t2i_coco256",
        against="coco",
        protocol="gigagan-30k",
        options={"metrics": ("fid",)},
        departures=("The CLIP score of 0.33 takes the archive's captions, which no list states.",),
    ),
    "dmd2-in64": _listed(
        "DMD2 on ImageNet-64, one step",
        _fid(1.28, 0.05),
        source="tianweiy/DMD2@8d8fa55",
        cost="5 minutes",
        needs="checkpoint_model_548000, imagenet-64x64.npz of EDM",
        licence="CC BY-NC-SA 4.0",
    ),
    "edm-cifar10": _listed(
        "EDM on CIFAR-10, unconditional, Heun 18 steps",
        _fid(1.97, 0.06),
        source="Karras et al. 2022: the minimum of three runs",
        cost="15 minutes",
        needs="edm-cifar10-32x32-uncond-vp.pkl, a pickle with code, which evalkit does not load",
        licence="CC BY-NC-SA 4.0",
    ),
    "dmd2-sd15": _listed(
        "DMD2, SD 1.5 in one step, 30,000 images",
        _fid(8.35, 0.1),
        source="tianweiy/DMD2@8d8fa55, experiments/sdv1.5/README.md",
        cost="30 to 60 minutes",
        needs="its checkpoint and list, val2014; its noise is per batch of 10",
        licence="CC BY-NC-SA 4.0 and OpenRAIL",
    ),
    "instaflow": _listed(
        "InstaFlow-0.9B, one step",
        _fid(13.1, 0.5),
        source="model card; list and crop not stated",
        cost="30 to 60 minutes",
        needs="XCLiu/instaflow_0_9B_from_sd_1_5",
        licence="CC BY-NC 4.0",
    ),
    "ddpm-cifar10": KnownAnswer(
        summary="DDPM on CIFAR-10, 1,000 steps",
        targets=_fid(3.17, 0.1),
        source="Ho et al. 2020, as others quote it",
        cost="2 to 4 hours",
        needs="DDPM's checkpoint for CIFAR-10 with EMA (without it FID is about 12), CIFAR-10 "
        "(170 MB) in EVALKIT_CIFAR10",
        licence="Apache-2.0",
        kind="generate",
        model="ddpm:cifar10",
        protocol="ddpm-cifar10-50k",
    ),
    "bksdm-small": KnownAnswer(
        summary="BK-SDM-Small, 25 steps, 30,000 images",
        targets=(
            *_fid(16.98, 0.2),
            Target(metric="is", value=31.68, tolerance=0.5),
            Target(metric="clip-score", value=0.2677, tolerance=0.001),
        ),
        source="Nota-NetsPresso/BK-SDM@e13670c, MODEL_CARD.md",
        cost="1 to 2 hours",
        needs="nota-ai/bk-sdm-small, its metadata.csv as the list bksdm-30k, COCO (6.6 GB)",
        licence="OpenRAIL",
        kind="generate",
        model="diffusers:nota-ai/bk-sdm-small",
        protocol="bksdm-30k",
        sampling={"steps": "25", "guidance": "7.5"},
        departures=("Noise is drawn per image, not by one generator for all.",),
    ),
    "mlperf-sdxl": KnownAnswer(
        summary="MLPerf's SDXL, 5,000 images",
        targets=(
            *_fid(23.4805, 0.4697),
            Target(metric="clip-score", value=31.7498, tolerance=0.0635),
        ),
        source="mlcommons/inference@b66003e1, submission_checker/constants.py",
        cost="3 to 5 hours",
        needs="stabilityai/stable-diffusion-xl-base-1.0, COCO (6.6 GB)",
        licence="Apache-2.0 and OpenRAIL++",
        kind="generate",
        model="diffusers:sdxl",
        protocol="mlperf-5k",
        sampling={"steps": "20", "guidance": "8"},
        departures=("There, all captions share one noise and a negative prompt.",),
    ),
    "karlo": KnownAnswer(
        summary="Karlo, decoder 50 steps",
        targets=_fid(14.43, 0.3),
        source="model card; reference not stated",
        cost="10 to 20 hours",
        needs="kakaobrain/karlo-v1-alpha, COCO (6.6 GB)",
        licence="OpenRAIL-M",
        kind="generate",
        model="unclip:karlo",
        protocol="karlo-30k",
        sampling={"steps": "decoder=50"},
    ),
    "adm-in64-sampled": KnownAnswer(
        summary="ADM-G at 64 px, sampled here: 250 steps, classifier scale 1",
        targets=_fid(2.07, 0.05),
        source="openai/guided-diffusion@22e0df8, evaluations/README.md",
        cost="20 hours or more",
        needs="64x64_diffusion.pt and 64x64_classifier.pt of guided-diffusion; evalkit references "
        "keep imagenet64@adm VIRTUAL_imagenet64_labeled.npz",
        licence="MIT",
        kind="generate",
        model="ddpm:adm64",
        protocol="adm-in64-50k",
        against="imagenet64@adm",
    ),
    "dit-in256": KnownAnswer(
        summary="DiT-XL/2 at 256 px, 250 steps, guidance 1.5",
        targets=_fid(2.21, 0.05),
        source="facebookresearch/DiT@ed81ce2",
        cost="over 30 hours",
        needs="facebook/DiT-XL-2-256; ImageNet's training images in EVALKIT_IMAGENET",
        licence="CC BY-NC",
        kind="generate",
        model="diffusers:facebook/DiT-XL-2-256",
        protocol="dit-in256-50k",
        sampling={"steps": "250", "guidance": "1.5"},
    ),
}
"""Checks by name, cheapest first."""
