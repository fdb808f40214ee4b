"""Weights that others published: where they are, how they are called, what hash they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.downloads import cache_root, fetch
from evalkit.errors import MissingWeightsError, NetworkError
from evalkit.registry import unknown


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file that can be fetched."""

    file: str
    """Its name in the cache's folder `weights`."""
    url: str
    sha256: str
    """Published hash; empty where its authors published none."""
    what: str


_GLIDE = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
_CODE = "https://raw.githubusercontent.com/openai/glide-text2im/main/glide_text2im/tokenizer"

PUBLISHED: dict[str, PublishedFile] = {
    "glide-base": PublishedFile(
        file="glide-base.pt", url=f"{_GLIDE}/base.pt", sha256="", what="GLIDE base, 64 px"
    ),
    "glide-upsampler": PublishedFile(
        file="glide-upsample.pt",
        url=f"{_GLIDE}/upsample.pt",
        sha256="",
        what="GLIDE upsampler, 256 px",
    ),
    "gpt2-encoder": PublishedFile(
        file="glide-encoder.json.gz",
        url=f"{_CODE}/encoder.json.gz",
        sha256="",
        what="token ids of GLIDE's vocabulary",
    ),
    "gpt2-merges": PublishedFile(
        file="glide-vocab.bpe.gz",
        url=f"{_CODE}/vocab.bpe.gz",
        sha256="",
        what="merges of GLIDE's vocabulary",
    ),
}


def locate(name: str, given: Path | None = None, *, instead: str = "") -> Path:
    """The file of some published weights: the one given, the cached one, or a download.

    Args:
        name: A row of `PUBLISHED`.
        given: A local file that takes its place.
        instead: A model that works without, for the error's advice.

    Raises:
        MissingWeightsError: The file is nowhere; the message says where to get and put it.
    """
    if name not in PUBLISHED:
        raise unknown(name, PUBLISHED, kind="weights")
    if given is not None:
        if not given.is_file():
            raise MissingWeightsError(f"--weights {name}={given}: no such file")
        return given
    row = PUBLISHED[name]
    target = cache_root() / "weights" / row.file
    if target.is_file():
        return target
    try:
        return fetch(row.url, target, sha256_prefix=row.sha256)
    except NetworkError as error:
        advice = f", or use {instead}, which works now" if instead else ""
        raise MissingWeightsError(
            f"{row.what}: {error}. Fetch {row.url} (sha256 "
            f"{row.sha256 or 'not published'}) and put it at {target}, or pass "
            f"--weights {name}=PATH{advice}"
        ) from error
