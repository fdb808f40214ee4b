"""How many steps suffice: FD of glide:tiny's base by sampler and number of steps.

    python -m benchmarks.sampling.steps [--n 200] [--out runs/sampling-steps] [--plot FILE.png]

Only the base network, at guidance 3, on n captions of the validation split; images and reference at
the base's 16 px, features of the judge. Each setting is compared with 250 ancestral steps on the
same captions and noise seeds, by the paired difference of FD with its 95 % interval. A number of
steps suffices if its interval and those of all larger numbers contain 0. Resumable; prints a
Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np

from evalkit.core.pixels import encode_png
from evalkit.core.progress import progress_bar
from evalkit.core.results import ResultRecord
from evalkit.core.seeding import image_seed
from evalkit.datasets.base import Caption, select_captions
from evalkit.datasets.shapes.dataset import load_shapes
from evalkit.features.sources import ImageItem
from evalkit.measurement import reference_items
from evalkit.metrics.comparison import compare_sets
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions
from generators.catalog import load_generator
from generators.diffusion.noise import image_rngs
from generators.diffusion.stage_sampling import StageSampling
from generators.glide.generator import GlideGenerator
from generators.glide.pipeline import encode_captions, sample_base
from generators.pixels import to_uint8

Setting = tuple[str, int]
BASELINE: Setting = ("ancestral", 250)
STEPS: Mapping[str, Sequence[int]] = {
    "ancestral": (25, 250),
    "ddim": (5, 10, 20, 50),
    "dpm++2m": (4, 6, 8, 10, 15, 20),
    "heun": (5, 9, 19),
}
GUIDANCE = 3.0
BATCH = 50
SIZE_PX = 16


@dataclass(frozen=True)
class Row:
    """One setting's FD, and its difference from the baseline."""

    setting: Setting
    fd: ResultRecord
    difference: ResultRecord | None

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        interval = self.difference.interval if self.difference else None
        return interval is not None and not interval.low <= 0 <= interval.high


def make_images(
    glide: GlideGenerator, captions: Sequence[Caption], setting: Setting, folder: Path
) -> list[ImageItem]:
    """Make the base's images of a setting, or reuse existing ones."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.png" for index in range(len(captions))]
    sampler, steps = setting
    with progress_bar(f"{sampler}, {steps} steps") as report:
        for start in range(0, len(captions), BATCH):
            batch = captions[start : start + BATCH]
            files = paths[start : start + BATCH]
            if not all(path.exists() for path in files):
                texts = encode_captions(
                    glide.base.network, glide.tokenizer, [c.text for c in batch]
                )
                images = sample_base(
                    glide.base.network,
                    texts,
                    image_rngs([image_seed(0, c.id, 0) for c in batch], "base"),
                    StageSampling(
                        process=glide.base.process,
                        sampler=sampler,
                        steps=steps,
                        guidance_scale=GUIDANCE,
                    ),
                )
                for path, pixels in zip(files, to_uint8(images).numpy(), strict=True):
                    path.write_bytes(encode_png(pixels))
            report(start + len(batch), len(captions))
    return [
        ImageItem(path=p, caption=c.text, caption_id=c.id, image_id=c.image_id)
        for p, c in zip(paths, captions, strict=True)
    ]


def measure(n: int, out: Path) -> list[Row]:
    """Compute FD and the paired difference of every setting."""
    glide = load_generator("glide:tiny")
    assert isinstance(glide, GlideGenerator)
    dataset = load_shapes()
    captions = select_captions(dataset, n, 0)
    settings = [(sampler, steps) for sampler, counts in STEPS.items() for steps in counts]
    sets = {s: make_images(glide, captions, s, out / f"{s[0]}-{s[1]}") for s in settings}
    reference = reference_items(dataset)
    options = MeasureOptions(
        features="shapes-clip",
        crop="squash",
        size_px=SIZE_PX,
        filter="box",
    )
    rows = []
    for setting, items in sets.items():
        (fd, *_) = score_sets(items, reference, ["fd"], options, progress_bar)
        difference = None
        if setting != BASELINE:
            (difference,) = compare_sets(
                items, sets[BASELINE], reference, ["fd"], options, progress_bar
            )
        rows.append(Row(setting, fd, difference))
    return rows


def enough_steps(rows: Sequence[Row], sampler: str) -> int | None:
    """Return the fewest steps from which on a sampler does not differ from the baseline."""
    enough = None
    for row in sorted((r for r in rows if r.setting[0] == sampler), key=lambda r: -r.setting[1]):
        if row.differs:
            break
        enough = row.setting[1]
    return enough


def print_table(rows: Sequence[Row]) -> None:
    """Print a Markdown table and the conclusions."""
    print("| sampler | steps | FD (16 px) | difference from 250 ancestral [95 %] | p |")
    print("|---|---|---|---|---|")
    for row in rows:
        sampler, steps = row.setting
        found = row.difference
        cells = ["", ""]
        if found is not None and found.value is not None and found.interval is not None:
            low, high = found.interval.low, found.interval.high
            cells = [
                f"{found.value:+.4f} [{low:+.4f}, {high:+.4f}]",
                shown_p(found.details["p_value"]),
            ]
        print(f"| {sampler} | {steps} | {row.fd.value:.4f} | {cells[0]} | {cells[1]} |")
    for sampler in STEPS:
        enough = enough_steps(rows, sampler)
        said = f"from {enough} steps on" if enough else "at no tested number of steps"
        print(f"{sampler}: no difference from 250 ancestral steps detected {said}")


def shown_p(p: float) -> str:
    """Format a p-value to three places."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot FD against steps, a line for each sampler."""
    values = [
        {"sampler": row.setting[0], "steps": row.setting[1], "FD": row.fd.value} for row in rows
    ]
    chart = (
        alt.Chart(alt.Data(values=values), width=520, height=300)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "steps:Q",
                scale=alt.Scale(type="log", nice=False),
                title="evaluations of the network",
            ),
            y=alt.Y(
                "FD:Q", scale=alt.Scale(type="log", nice=False), title="FD (shapes-clip, 16 px)"
            ),
            color=alt.Color("sampler:N", title=None),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(path, scale_factor=2)


def main() -> None:
    """Generate missing images, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/sampling-steps"))
    parser.add_argument("--plot", type=Path, default=None)
    options = parser.parse_args()
    rows = measure(options.n, options.out)
    assert all(np.isfinite(row.fd.value or np.nan) for row in rows)
    print_table(rows)
    plot(rows, options.plot or options.out / "steps.png")


if __name__ == "__main__":
    main()
