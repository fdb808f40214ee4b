"""What to know before a number: the floor of the distance, and images that spoil a set.

The floor is the distance of real images from real ones at the same n: a model that draws perfectly
would still get about that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.core.pixels import FileHeader, file_header
from evalkit.core.preparations import squashed_gray
from evalkit.core.progress import ProgressFactory, silent
from evalkit.features.decoding import usable_cores
from evalkit.features.sources import ArrayImage, ImageItem, Preparation, hash_of, load_image
from evalkit.features.store import StoredSet
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.moments import Moments

CLIP_CONTEXT = 77
"""Tokens that OpenAI's and open_clip's text networks read, with the two at the ends."""
NEAR_BITS = 4
"""Bits of 64 in which the perceptual hashes of near-duplicates differ at most."""
_BANDS = NEAR_BITS + 1
"""Hashes that differ in at most `NEAR_BITS` bits are equal in one of as many bands and one more."""
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The distance of real images from other real ones."""

    value: float
    n: int
    """Images of the smaller set; below the samples' number if the reference is too small."""
    n_rest: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Images with one flaw."""

    what: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.names[:_MOST_NAMED])
        more = (
            f" and {len(self.names) - _MOST_NAMED:,} more" if len(self.names) > _MOST_NAMED else ""
        )
        return f"{self.what}: {len(self.names):,} ({named}{more})"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What one pass over a set found."""

    num_images: int
    findings: tuple[Finding, ...]
    sizes: Mapping[str, int]
    """Number of images by width and height, such as `256 x 256`."""
    formats: Mapping[str, int]
    """Number of images by file format and colour mode, such as `PNG RGB`."""

    def lines(self) -> list[str]:
        """Return one line for each thing to know; empty if there is nothing."""
        found = [str(finding) for finding in self.findings]
        for what, counts in (("sizes", self.sizes), ("formats", self.formats)):
            if len(counts) > 1:
                named = ", ".join(f"{key} {count:,}" for key, count in counts.items())
                found.append(f"mixed {what}: {named}")
        return found


@dataclass(frozen=True, kw_only=True)
class _Seen:
    name: str
    sha256: str = ""
    header: FileHeader | None = None
    fault: str = ""
    flaw: str = ""
    fingerprint: int = 0


def inspect(items: Sequence[ImageItem], progress: ProgressFactory = silent) -> Inspection:
    """Look at every image once.

    It finds images that are unreadable, black or constant; those whose values are all 0 or 1, as
    floats that were saved without scaling; and near-duplicates by a perceptual hash. Equal files
    are no near-duplicates.

    Raises:
        NotEnoughImagesError: There are no images.
    """
    if not items:
        raise NotEnoughImagesError("There are no images to inspect; give at least one.")
    seen: list[_Seen] = []
    with progress("Inspecting images") as report, ThreadPoolExecutor(usable_cores()) as pool:
        for number, one in enumerate(pool.map(_look, items), start=1):
            seen.append(one)
            report(number, len(items))
    by_flaw: dict[str, list[str]] = defaultdict(list)
    for one in seen:
        if one.fault or one.flaw:
            by_flaw[one.fault or one.flaw].append(one.name)
    findings = [Finding(what=what, names=tuple(names)) for what, names in by_flaw.items()]
    near = near_duplicates([one for one in seen if not (one.fault or one.flaw)])
    if near:
        findings.append(Finding(what="near-duplicate pairs", names=tuple(near)))
    headers = [one.header for one in seen if one.header is not None]
    return Inspection(
        num_images=len(items),
        findings=tuple(findings),
        sizes=_counted(f"{h.width} x {h.height}" for h in headers),
        formats=_counted(f"{h.file_format} {h.mode}" for h in headers),
    )


def real_floor(features: StoredSet | np.ndarray, n: int, *, seed: int = 0) -> Floor:
    """Compute the Fréchet distance of n random real images from the others.

    If the reference has fewer than 2n images, it is cut into halves, and the floor of n lies below.

    Args:
        features: Features of the reference, images x dimensions.
        n: Number of samples.
        seed: Seed of the random choice.

    Raises:
        NotEnoughImagesError: Fewer than four real images, or fewer than two samples.
    """
    rows = np.asarray(features)
    if len(rows) < 4 or n < 2:
        raise NotEnoughImagesError(
            f"A floor needs 4 real images and 2 samples, got {len(rows)} and {n}. Add images."
        )
    taken = min(n, len(rows) // 2)
    order = np.random.default_rng(seed).permutation(len(rows))
    first, rest = rows[order[:taken]], rows[order[taken:]]
    value = frechet_distance(Moments.from_features(first), Moments.from_features(rest))
    return Floor(value=value, n=taken, n_rest=len(rest))


def cut_captions(captions: Sequence[str], prefix: str = "") -> list[str]:
    """Return the captions that the text context of CLIP cuts off.

    Args:
        captions: The captions.
        prefix: Prefix that the protocol puts before each.
    """
    from open_clip.tokenizer import SimpleTokenizer  # takes seconds to import

    tokenizer = SimpleTokenizer()
    return [
        caption
        for caption in captions
        if len(tokenizer.encode(f"{prefix}{caption}")) + 2 > CLIP_CONTEXT
    ]


def near_duplicates(seen: Sequence[_Seen]) -> list[str]:
    """Return pairs of images whose perceptual hashes differ in at most `NEAR_BITS` bits.

    Each image is paired with the first one that is near it. Equal files are left out.
    """
    buckets: dict[tuple[int, int], list[_Seen]] = defaultdict(list)
    pairs = []
    width = -(-64 // _BANDS)
    for one in seen:
        keys = [
            (band, (one.fingerprint >> (band * width)) & ((1 << width) - 1))
            for band in range(_BANDS)
        ]
        known = (other for key in keys for other in buckets[key])
        first = next((other for other in known if _is_near(one, other)), None)
        if first is not None:
            pairs.append(f"{first.name} ~ {one.name}")
        for key in keys:
            buckets[key].append(one)
    return pairs


def _is_near(one: _Seen, other: _Seen) -> bool:
    return (
        one.sha256 != other.sha256
        and (one.fingerprint ^ other.fingerprint).bit_count() <= NEAR_BITS
    )


def _look(item: ImageItem) -> _Seen:
    try:
        sha256 = item.sha256 or hash_of(item)
        image = load_image(item, Preparation())
        header = None if isinstance(item.path, ArrayImage) else file_header(item.path)
    except DataError:
        return _Seen(name=item.name, fault="unreadable")
    fingerprint = difference_hash(image)
    return _Seen(
        name=item.name, sha256=sha256, header=header, flaw=_flaw(image), fingerprint=fingerprint
    )


def _flaw(image: np.ndarray) -> str:
    low, high = int(image.min()), int(image.max())
    if high == 0:
        return "black"
    if low == high:
        return "constant"
    if high <= 1:
        return "out of range (all values are 0 or 1, as floats that were not scaled)"
    return ""


def difference_hash(image: np.ndarray) -> int:
    """Compute a 64-bit hash: whether each of 8 x 8 places is darker than its right neighbour."""
    gray = squashed_gray(image, width=9, height=8)
    bits = (gray[:, 1:] > gray[:, :-1]).flatten()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
