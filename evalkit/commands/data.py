"""`evalkit data`: draw `shapes`, find or download COCO."""

from __future__ import annotations

from pathlib import Path

from evalkit.catalog import DATASETS
from evalkit.core.downloads import cache_root
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder
from evalkit.core.progress import console, progress_bar
from evalkit.datasets.captions_file import draw_hash, write_captions
from evalkit.datasets.coco import COCO_SPLIT, VAL2017
from evalkit.datasets.coco_archives import fetch_archives
from evalkit.datasets.draws import draw_captions, selection_rule
from evalkit.datasets.inventory import colour_modes, differences_from_published
from evalkit.datasets.open import open_dataset
from evalkit.datasets.published_lists import keep_list, normal_hash
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.protocols.catalog import open_protocol
from evalkit.protocols.model import MeasurementProtocol


def shapes(out: Path, train: int, val: int, seed: int) -> None:
    """Draw a `shapes` data set into a folder."""
    check_folder(out, "--out")
    with progress_bar(f"Drawing {train + val:,} images") as report:
        write_shapes(out, train, val, seed, on_progress=report)
    console.print(f"{out}: {train:,} training and {val:,} validation images, in COCO's format")


def coco(
    coco_root: Path | None,
    *,
    protocol: str = "",
    captions_out: Path | None = None,
    captions_list: Path | None = None,
    archives: bool = False,
) -> None:
    """Print where COCO is, after downloading it if needed and possible; draw captions on request.

    Args:
        coco_root: Folder of COCO.
        protocol: Protocol whose captions are drawn.
        captions_out: File for the drawn captions; with it, the protocol is `imagen-30k` by default.
        captions_list: File of the protocol's published list, which is checked and kept.
        archives: Whether to download the official archives, into `coco_root` or the cache.

    Raises:
        ConfigError: A list without a protocol that has one, or a protocol on other data.
        MissingDataError: COCO or the list is neither here nor reachable.
        DataError: The list has another hash, or is of other captions.
    """
    chosen = _captions_protocol(protocol, captions_out=captions_out, captions_list=captions_list)
    if chosen is not None and captions_list is not None:
        kept = keep_list(chosen.captions.list, captions_list)
        console.print(f"List of {chosen.name} kept: {kept}", soft_wrap=True)
    name = "coco" if chosen is None else chosen.dataset
    if archives:
        coco_root = coco_root or cache_root() / "coco"
        fetch_archives(coco_root, VAL2017 if name.endswith(VAL2017) else COCO_SPLIT, progress_bar)
    with progress_bar("Downloading COCO") as report:
        found = open_dataset(name, coco_root=coco_root, on_progress=report)
    where = found.image_path(found.image_ids[0]).parent
    console.print(
        f"{where}: {len(found.image_ids):,} images, {len(found.captions):,} captions, "
        f"captions hash {found.captions_sha256[:12]}",
        soft_wrap=True,
    )
    modes = colour_modes(found, progress_bar)
    counted = ", ".join(f"{mode} {count:,}" for mode, count in modes.items())
    console.print(f"Colour modes: {counted}", soft_wrap=True)
    for line in differences_from_published(found, name):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if captions_out is not None and chosen is not None:
        rule = chosen.captions
        drawn = draw_captions(found, rule, rule.count, rule.seed)
        write_captions(captions_out, drawn)
        console.print(
            f"{len(drawn):,} captions of {chosen.name} ({chosen.choices_phrase()}): {captions_out}",
            soft_wrap=True,
        )
        console.print(
            f"Draw: {selection_rule(rule)}\nIds: {draw_hash(drawn)}\n"
            f"Normal form: {normal_hash([c.text for c in drawn])}",
            soft_wrap=True,
            highlight=False,
        )


def _captions_protocol(
    protocol: str, *, captions_out: Path | None, captions_list: Path | None
) -> MeasurementProtocol | None:
    if not protocol and captions_list is not None:
        raise ConfigError("--captions-list belongs to a protocol. Name it with --protocol.")
    if not protocol and captions_out is None:
        return None
    chosen = open_protocol(protocol or "imagen-30k")
    row = DATASETS.get(chosen.dataset)
    if row is None or not row.takes_root:
        raise ConfigError(f"{chosen.name} draws from {chosen.dataset}, not from COCO.")
    if captions_list is not None and not chosen.captions.list:
        raise ConfigError(
            f"{chosen.name} has no published list: {selection_rule(chosen.captions)}. Drop "
            "--captions-list."
        )
    return chosen
