"""Published weights: names, addresses and hashes, and the cache of their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.core.downloads import cache_root, fetch, sha256_of
from evalkit.core.errors import MissingWeightsError, NetworkError, WeightsError
from evalkit.core.progress import ProgressCallback
from evalkit.core.registry import unknown
from evalkit.core.results import write_atomically


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One published file."""

    file: str
    """Its name in the cache's folder `weights`."""
    url: str
    """Empty where the weights were never released."""
    sha256: str
    """Hash that its authors published; empty: none."""
    what: str


_GLIDE = "https://openaipublic.blob.core.windows.net/diffusion/dec-2021"
_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_IMPROVED = "https://openaipublic.blob.core.windows.net/diffusion/march-2021"
_GOOGLE = "https://huggingface.co/google"
_DALLE = "https://cdn.openai.com/dall-e"
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
    "glide-base-inpaint": PublishedFile(
        file="glide-base-inpaint.pt",
        url=f"{_GLIDE}/base_inpaint.pt",
        sha256="",
        what="GLIDE base for inpainting, 64 px",
    ),
    "glide-upsampler-inpaint": PublishedFile(
        file="glide-upsample-inpaint.pt",
        url=f"{_GLIDE}/upsample_inpaint.pt",
        sha256="",
        what="GLIDE upsampler for inpainting, 256 px",
    ),
    "ddpm-cifar10": PublishedFile(
        file="ddpm-cifar10.bin",
        url=f"{_GOOGLE}/ddpm-cifar10-32/resolve/main/diffusion_pytorch_model.bin",
        sha256="",
        what="DDPM for CIFAR-10, 32 px",
    ),
    "ddpm-celebahq256": PublishedFile(
        file="ddpm-celebahq256.bin",
        url=f"{_GOOGLE}/ddpm-celebahq-256/resolve/main/diffusion_pytorch_model.bin",
        sha256="",
        what="DDPM for CelebA-HQ, 256 px",
    ),
    "ddpm-improved-cifar10": PublishedFile(
        file="ddpm-improved-cifar10.pt",
        url=f"{_IMPROVED}/cifar10_uncond_50M_500K.pt",
        sha256="",
        what="Improved DDPM for CIFAR-10, 32 px",
    ),
    "ddpm-improved-imagenet64": PublishedFile(
        file="ddpm-improved-imagenet64.pt",
        url=f"{_IMPROVED}/imagenet64_uncond_100M_1500K.pt",
        sha256="",
        what="Improved DDPM for ImageNet, 64 px",
    ),
    "ddpm-improved-imagenet64-class": PublishedFile(
        file="ddpm-improved-imagenet64-class.pt",
        url=f"{_IMPROVED}/imagenet64_cond_270M_250K.pt",
        sha256="",
        what="Improved DDPM for ImageNet with classes, 64 px",
    ),
    "ddpm-adm64": PublishedFile(
        file="ddpm-adm64.pt",
        url=f"{_ADM}/64x64_diffusion.pt",
        sha256="",
        what="ADM for ImageNet, 64 px",
    ),
    "ddpm-adm64-classifier": PublishedFile(
        file="ddpm-adm64-classifier.pt",
        url=f"{_ADM}/64x64_classifier.pt",
        sha256="",
        what="ADM's noisy classifier, 64 px",
    ),
    "ddpm-adm128": PublishedFile(
        file="ddpm-adm128.pt",
        url=f"{_ADM}/128x128_diffusion.pt",
        sha256="",
        what="ADM for ImageNet, 128 px",
    ),
    "ddpm-adm128-classifier": PublishedFile(
        file="ddpm-adm128-classifier.pt",
        url=f"{_ADM}/128x128_classifier.pt",
        sha256="",
        what="ADM's noisy classifier, 128 px",
    ),
    "ddpm-adm256": PublishedFile(
        file="ddpm-adm256.pt",
        url=f"{_ADM}/256x256_diffusion.pt",
        sha256="",
        what="ADM for ImageNet, 256 px",
    ),
    "ddpm-adm256-classifier": PublishedFile(
        file="ddpm-adm256-classifier.pt",
        url=f"{_ADM}/256x256_classifier.pt",
        sha256="",
        what="ADM's noisy classifier, 256 px",
    ),
    "ddpm-adm512": PublishedFile(
        file="ddpm-adm512.pt",
        url=f"{_ADM}/512x512_diffusion.pt",
        sha256="",
        what="ADM for ImageNet, 512 px",
    ),
    "ddpm-adm512-classifier": PublishedFile(
        file="ddpm-adm512-classifier.pt",
        url=f"{_ADM}/512x512_classifier.pt",
        sha256="",
        what="ADM's noisy classifier, 512 px",
    ),
    "ddpm-adm256-unconditional": PublishedFile(
        file="ddpm-adm256-unconditional.pt",
        url=f"{_ADM}/256x256_diffusion_uncond.pt",
        sha256="",
        what="ADM for ImageNet without classes, 256 px",
    ),
    "glide-paper-base": PublishedFile(
        file="glide-paper-base.safetensors", url="", sha256="", what="GLIDE base of the paper"
    ),
    "glide-paper-upsampler": PublishedFile(
        file="glide-paper-upsampler.safetensors",
        url="",
        sha256="",
        what="GLIDE upsampler of the paper",
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
    "dalle-dvae-encoder": PublishedFile(
        file="dalle-encoder.pkl",
        url=f"{_DALLE}/encoder.pkl",
        sha256="",
        what="encoder of DALL-E's discrete VAE",
    ),
    "dalle-dvae-decoder": PublishedFile(
        file="dalle-decoder.pkl",
        url=f"{_DALLE}/decoder.pkl",
        sha256="",
        what="decoder of DALL-E's discrete VAE",
    ),
}

MODEL_FILES: Mapping[str, tuple[str, ...]] = {
    "glide:released": ("glide-base", "glide-upsampler", "gpt2-encoder", "gpt2-merges"),
    "glide:released-inpaint": (
        "glide-base-inpaint",
        "glide-upsampler-inpaint",
        "gpt2-encoder",
        "gpt2-merges",
    ),
    "glide:paper": ("glide-paper-base", "glide-paper-upsampler", "gpt2-encoder", "gpt2-merges"),
    "ddpm:cifar10": ("ddpm-cifar10",),
    "ddpm:celebahq256": ("ddpm-celebahq256",),
    "ddpm:improved-cifar10": ("ddpm-improved-cifar10",),
    "ddpm:improved-imagenet64": ("ddpm-improved-imagenet64",),
    "ddpm:improved-imagenet64-class": ("ddpm-improved-imagenet64-class",),
    "ddpm:adm64": ("ddpm-adm64", "ddpm-adm64-classifier"),
    "ddpm:adm128": ("ddpm-adm128", "ddpm-adm128-classifier"),
    "ddpm:adm256": ("ddpm-adm256", "ddpm-adm256-classifier"),
    "ddpm:adm256-unconditional": ("ddpm-adm256-unconditional", "ddpm-adm256-classifier"),
    "ddpm:adm512": ("ddpm-adm512", "ddpm-adm512-classifier"),
}
"""The rows of `PUBLISHED` that a model is loaded from, its networks in order, by catalog name."""

RECORDS = "sha256.json"
"""In the cache's folder `weights`: the hash that each file had when it was first used."""
UNPUBLISHED = "unpublished"


@dataclass(frozen=True)
class CachedFile:
    """The state of one row's file in the cache."""

    name: str
    path: Path
    is_there: bool
    recorded: str
    """Hash at first use; empty: never used."""

    @property
    def expected(self) -> str:
        """The hash that the file must have, or the start of it; empty: not known yet."""
        return PUBLISHED[self.name].sha256 or self.recorded

    @property
    def origin(self) -> str:
        """Where the expected hash comes from."""
        return "published" if PUBLISHED[self.name].sha256 else UNPUBLISHED


def cached_file(name: str) -> CachedFile:
    """Return the cache's state of a row of `PUBLISHED`.

    Raises:
        UnknownNameError: The row does not exist.
    """
    if name not in PUBLISHED:
        raise unknown(name, PUBLISHED, kind="weights")
    path = weights_folder() / PUBLISHED[name].file
    return CachedFile(name, path, path.is_file(), _recorded().get(path.name, ""))


def weights_folder() -> Path:
    """Return the cache's folder of published weights."""
    return cache_root() / "weights"


def locate(
    name: str,
    given: Path | None = None,
    *,
    instead: str = "",
    report: ProgressCallback = lambda done, total: None,
) -> Path:
    """Return the file of published weights: the given one, the cached one, or a download.

    A cached file is compared with the published hash, or with its hash at first use. A given file
    is not checked.

    Args:
        name: A row of `PUBLISHED`.
        given: A local file to use instead.
        instead: A model that needs no download, for the error message.
        report: Called with (bytes done, total bytes) during the download.

    Raises:
        MissingWeightsError: The file is neither cached nor downloadable.
        WeightsError: The cached file has another hash.
    """
    cached = cached_file(name)
    if given is not None:
        if not given.is_file():
            raise MissingWeightsError(f"--weights {name}={given} is not a file.")
        return given
    if not cached.is_there:
        _fetch(cached, instead, report)
    verify(name)
    return cached.path


def verify(name: str) -> str:
    """Compare a cached file with its hash; record the hash at first use.

    Returns:
        The file's sha256.

    Raises:
        MissingWeightsError: The file is not cached.
        WeightsError: The file has another hash.
    """
    cached = cached_file(name)
    if not cached.is_there:
        raise MissingWeightsError(
            f"Weights {name} are not cached. Fetch them with: evalkit weights fetch {name}"
        )
    found = sha256_of(cached.path)
    if not found.startswith(cached.expected):
        raise WeightsError(
            f"{cached.path} has sha256 {found}, expected {cached.expected} ({cached.origin}"
            f"{', recorded at first use' if cached.origin == UNPUBLISHED else ''}). Delete it and "
            f"fetch it again with: evalkit weights fetch {name}"
        )
    if cached.recorded != found:
        _record(cached.path.name, found)
    return found


def _fetch(cached: CachedFile, instead: str, report: ProgressCallback) -> None:
    row = PUBLISHED[cached.name]
    advice = f", or use {instead}, which needs no download" if instead else ""
    if not row.url:
        raise MissingWeightsError(
            f"The weights {cached.name} ({row.what}) were never released. Pass --weights "
            f"{cached.name}=PATH{advice}."
        )
    try:
        fetch(row.url, cached.path, sha256_prefix=cached.expected, report=report)
    except NetworkError as error:
        raise MissingWeightsError(
            f"Weights {cached.name} ({row.what}) not found in the cache, and the download failed: "
            f"{str(error).rstrip('.')}. Fetch {row.url} (sha256 {row.sha256 or 'not published'}) "
            f"and put it at {cached.path}, or pass --weights {cached.name}=PATH{advice}."
        ) from error


def _recorded() -> dict[str, str]:
    file = weights_folder() / RECORDS
    if not file.is_file():
        return {}
    try:
        hashes: dict[str, str] = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise WeightsError(f"{file} is damaged: {error}. Delete it.") from error
    return hashes


def _record(file_name: str, sha256: str) -> None:
    hashes = _recorded() | {file_name: sha256}
    text = json.dumps(hashes, indent=2, sort_keys=True) + "\n"
    write_atomically(weights_folder() / RECORDS, text.encode())
