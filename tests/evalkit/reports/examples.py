"""Reports as a run would hand them over: images drawn here, records of every kind and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from evalkit.core.results import Interval, ResultRecord
from evalkit.reports.html import ComparisonReport, Gallery, ReportSample, RunReport

QUICK = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""Few examples, and no deadline: the machine may be busy with something else."""

COLOURS = {
    "red": (212, 60, 48), "blue": (52, 96, 196), "green": (60, 150, 78), "yellow": (232, 190, 52),
    "purple": (132, 76, 168), "orange": (232, 132, 48), "white": (240, 240, 236),
    "black": (34, 34, 38),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle")
NASTY_PROMPTS = (
    "<script>alert('prompt')</script><img src=x onerror=alert(1)> a red circle",
    'a "quoted" & \'apostrophed\' sign that reads =HYPERLINK("http://evil.example")',
    "דרקון אדום קטן יושב על ספר כחול, a small dragon",
    "一只戴着宇航员头盔的猫 🐈‍⬛ on the moon, naïve façade",
    "A storefront with a very long description: " + "a red circle beside a small blue square, " * 7,
    "Hovering_cow_abducting_aliens_without_any_space_" * 4,
)
EXTRACTOR = {
    "extractor": {"name": "shapes-clip", "weights_sha256": "77aa" * 16, "precision": "float32"}
}
MEASURING = {
    "dataset": "shapes",
    "split": "validation",
    "captions": 1000,
    "captions_sha256": "3fc1" * 16,
    "reference": "the validation images of shapes",
    "num_reference": 1000,
    "reference_sha256": "90be" * 16,
    "crop": "center",
    "filter": "bicubic",
    "size_px": 64,
    "seed": 0,
    "seed_rule": "sha256(run seed, caption id, sample index)",
    "versions": {"torch": "2.14.1", "evalkit": "0.1.0"},
}
MAKING = {
    "model": "glide:tiny",
    "sampler": "ddim",
    "steps": {"base": 25, "upsampler": 10},
    "guidance": {"base": 1.5},
    "training_relation": "trained on this data set",
    "command": [
        "evalkit", "fid", "--model", "glide:tiny", "--data", "shapes", "--n", "1000",
        "--out", "runs/my glide",
    ],
}  # fmt: skip


def make_record(
    metric: str = "clip-score", value: float | None = 31.24, **changes: Any
) -> ResultRecord:
    """A record with everything that a metric must say; pass what the test is about."""
    half_width = changes.pop("half_width", None)
    fields: dict[str, Any] = {"n": 1000, "direction": "higher", "fingerprint": dict(MEASURING)}
    if half_width is not None and value is not None:
        fields["interval"] = Interval(
            low=value - half_width, high=value + half_width, method="influence function, z = 1.96"
        )
        fields["standard_error"] = half_width / 1.96
    return ResultRecord(metric=metric, value=value, **(fields | changes))


def draw_scene(path: Path, seed: int, size_px: int = 64) -> Path:
    """A few shapes on a soft background, drawn at four times the size."""
    rng = np.random.default_rng(seed)
    big = 4 * size_px
    tint = rng.integers(150, 235, size=3)
    slope = np.linspace(0.8, 1.1, big)[:, None, None]
    pixels = np.clip(tint * slope * np.ones((big, big, 1)), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        colour = list(COLOURS.values())[int(rng.integers(len(COLOURS)))]
        radius = int(rng.integers(big // 9, big // 4))
        x, y = (int(v) for v in rng.integers(radius, big - radius, size=2))
        box = (x - radius, y - radius, x + radius, y + radius)
        kind = SHAPES[int(rng.integers(len(SHAPES)))]
        if kind == "circle":
            pen.ellipse(box, fill=colour)
        elif kind == "square":
            pen.rectangle(box, fill=colour)
        else:
            corners = [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)]
            pen.polygon(corners, fill=colour)
    image.resize((size_px, size_px), Image.Resampling.LANCZOS).save(path)
    return path


def caption_text(seed: int) -> str:
    """A caption in the manner of the shapes data set."""
    rng = np.random.default_rng(seed)
    first, second = rng.choice(list(COLOURS), size=2, replace=False)
    side = rng.choice(["left of", "above", "below"])
    return f"a large {first} {rng.choice(SHAPES)} {side} a small {second} {rng.choice(SHAPES)}"


def run_records() -> list[ResultRecord]:
    """What one run of a tiny model leaves, in every state."""
    fd = MEASURING | EXTRACTOR
    clip = MEASURING | {"extractor": {"name": "clip:tiny-judge", "weights_sha256": "51d0" * 16}}
    records = [
        make_record(
            "fd", 3.8127, direction="lower", half_width=0.2431, fingerprint=fd,
            details={"dimensions": 256, "n_over_d": 3.9, "by_stage": {"mean": 0.4, "cov": 3.4}},
        ),
        make_record(
            "fd-infinity", 2.9135, direction="lower", half_width=0.41, fingerprint=fd,
        ),
        make_record(
            "clip-score", 29.1342, half_width=0.31, fingerprint=clip,
        ),
        make_record("composition-pairs", 0.7312, half_width=0.0187, unit="share of images"),
        make_record("composition-pairs-shuffled", 0.1431, half_width=0.012, direction="none",
                    unit="share of images"),
        make_record(
            "fid", None, direction="lower", n=1000, state="failed",
            reason="weights-inception-2015-12-05-6726825d.pth is neither cached nor downloadable",
        ),
        make_record(
            "precision", 0.8125, reason="no interval: the bootstrap was not asked for",
        ),
        make_record(
            "r-precision", None, state="not_applicable", n=0,
            reason="needs 100 distinct captions, the data set has 64",
        ),
        make_record("images-per-second", 4.62, unit="images/s", reason="no interval: one run"),
    ]  # fmt: skip
    return [record.with_context(subject="glide:tiny", fingerprint=MAKING) for record in records]


def run_report(scenes: list[Path], truncated: Path) -> RunReport:
    """A whole report on one run."""
    plain = [
        ReportSample(image=path, caption=caption_text(seed), caption_id=f"{seed:06d}")
        for seed, path in enumerate(scenes)
    ]
    nasty = [
        ReportSample(image=path, caption=prompt, caption_id=f"9{seed:05d}", notes=notes)
        for seed, (path, prompt, notes) in enumerate(
            zip(scenes, NASTY_PROMPTS, [(), (), (), (), ("caption truncated to 77 tokens",), ()],
                strict=False)
        )
    ]  # fmt: skip
    broken = [
        ReportSample(image=Path("x"), caption="a refused prompt", status="refused",
                     notes=("the service refused: content policy",)),
        ReportSample(image=truncated, caption="an image that was cut off"),
    ]  # fmt: skip
    by_score = [
        ReportSample(image=path, caption=caption_text(90 + at), caption_id=f"{90 + at:06d}",
                     score=score, score_name="CLIP score")
        for at, (path, score) in enumerate(zip(scenes, np.linspace(42.13, 9.871, 16), strict=True))
    ]  # fmt: skip
    harmful = [
        ReportSample(image=path, caption=caption_text(50 + at), caption_id=f"{50 + at:06d}",
                     score=0.0412 / (at + 1), score_name="influence", reference=scenes[-at - 1],
                     category="counting")
        for at, path in enumerate(scenes[:4])
    ]  # fmt: skip
    return RunReport(
        title="glide:tiny on shapes",
        question="How well does glide:tiny draw the captions of the shapes data set, and how sure "
        "are we?",
        records=run_records(),
        galleries=[
            Gallery(title="Samples", explanation="Drawn at random by seed, not picked.",
                    samples=plain + nasty + broken),
            Gallery(title="Best by CLIP score", explanation="The eight images that CLIP finds "
                    "closest to their captions.", samples=by_score[:8]),
            Gallery(title="Worst by CLIP score", explanation="The eight that it finds furthest.",
                    samples=by_score[8:]),
            Gallery(title="Most harmful by influence", explanation="The images that push the "
                    "distance up most, each beside the real image of its caption.",
                    samples=harmful),
        ],
        fingerprint=MEASURING | MAKING,
        warnings=["FD of a tiny embedded network: it compares with nothing but itself.",
                  "12 captions were truncated to 77 tokens."],
        timings={"generate": 216.4, "encode": 9.2, "measure": 1.31, "report": 0.42},
        made_with={"evalkit": "0.1.0", "Python": "3.11.9", "torch": "2.14.1"},
        single_values={"clip-score": np.random.default_rng(3).normal(29, 5, 1000).tolist()},
    )  # fmt: skip


def comparison_records() -> list[ResultRecord]:
    """Four models, several metrics, one of them measured otherwise."""
    models = {
        "glide:tiny": (3.81, 29.13, 0.731, 4.6),
        "unclip:tiny": (4.42, 28.02, 0.688, 1.9),
        "imagen:tiny": (3.35, 30.44, 0.764, 2.2),
        "dalle:tiny": (9.87, 24.91, 0.512, 7.8),
    }
    records = []
    for rank, (model, (fd, clip, composition, speed)) in enumerate(models.items()):
        making = MAKING | {"model": model, "sampler": "top-k" if "dalle" in model else "ddim"}
        if "dalle" in model:
            making = making | {"reranked": {"by": "clip:tiny", "candidates": 16}}
        judged = MEASURING | {"extractor": {"name": "clip:tiny-judge"}}
        if "unclip" in model:
            judged = judged | {"crop": "squash", "captions_sha256": "abcd" * 16}
        fails = "dalle" in model
        precision = make_record(
            "precision", None if fails else 0.82 - 0.01 * rank, n=500, half_width=0.03,
            state="failed" if fails else "ok", reason="too few images" if fails else "",
        )  # fmt: skip
        records += [
            record.with_context(subject=model, fingerprint=making)
            for record in (
                make_record("fd", fd, direction="lower", half_width=0.24 + 0.03 * rank, n=500,
                            fingerprint=MEASURING | EXTRACTOR),
                make_record("clip-score", clip, half_width=0.43, n=500, fingerprint=judged),
                make_record("composition-pairs", composition, half_width=0.026, n=500,
                            unit="share of images"),
                make_record("images-per-second", speed, unit="images/s", n=500,
                            reason="no interval: one run"),
                *([] if "imagen" in model else [precision]),
            )
        ]  # fmt: skip
    for pair, value, p_value in (
        ("glide:tiny - unclip:tiny", -0.61, 0.0004),
        ("glide:tiny - imagen:tiny", 0.46, 0.021),
        ("unclip:tiny - imagen:tiny", 0.15, 0.41),
    ):
        records.append(
            make_record("fd-difference", value, direction="lower", half_width=0.36, n=500,
                        subject=pair, fingerprint=MEASURING | EXTRACTOR,
                        details={"p_value": p_value})
        )  # fmt: skip
    return records


def comparison_report(scenes: list[Path]) -> ComparisonReport:
    """Four models side by side."""
    subjects = ("glide:tiny", "unclip:tiny", "imagen:tiny", "dalle:tiny")
    samples = [
        ReportSample(image=scenes[(4 * at + rank) % 16], caption=caption_text(at),
                     caption_id=f"{at:06d}", subject=subject, score=30.1 - at - rank,
                     score_name="CLIP score")
        for at in range(4)
        for rank, subject in enumerate(subjects)
    ]  # fmt: skip
    return ComparisonReport(
        title="Four tiny models on shapes",
        question="Which of the four draws the captions best, by how much, and how sure are we?",
        subjects=subjects,
        records=comparison_records(),
        galleries=[Gallery(title="The same captions", explanation="Same captions, same seeds.",
                           samples=samples, layout="by_caption")],
        fingerprint={"command": "evalkit compare runs/glide runs/unclip runs/imagen runs/dalle"},
        made_with={"evalkit": "0.1.0"},
    )  # fmt: skip
