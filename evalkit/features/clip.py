"""CLIP image and text embeddings: open_clip's models by name, and the embedded `shapes-clip`.

A name is `MODEL:TAG` as open_clip lists them, or `MODEL:PATH` of a weights file, such as
`ViT-L-14-quickgelu:openai`. OpenAI's own names (`ViT-B/32`) mean OpenAI's weights with the
activation they were trained with; plain `ViT-B-32:openai` gets that activation too.

A file doesn't say which activation its network was trained with, and the wrong one changes every
score without an error. OpenAI's files are known by their hashes and get QuickGELU; a file named
after one of open_clip's tags gets that of the tag; any other file gets that of the model that was
named, which is said. All of these are in the identity.

Embeddings are returned as the network gives them, not normalised.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError

from evalkit.core.downloads import sha256_of
from evalkit.core.errors import (
    MissingWeightsError,
    NetworkError,
    WeightsError,
)
from evalkit.core.files import refuse_foreign_weights
from evalkit.core.progress import errors
from evalkit.core.registry import unknown
from evalkit.features.base import Extractor, PreparedExtractor, check_precision
from evalkit.features.clip_preprocessing import ClipPreprocessing
from evalkit.features.hub_weights import (
    CLIP_FILES,
    OPENAI_NAMES,
    SHAPES_CLIP,
    cached_file,
    missing_clip,
    require_hub,
)
from generators.numerics import full_float32

_QUICK = "-quickgelu"
_HASH_IN_ADDRESS = re.compile(r"/([0-9a-f]{64})/")
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's files that are no weights."""
UNREADABLE = (
    RuntimeError, KeyError, ValueError, OSError, EOFError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
"""What the readers of weights files raise for a file that is damaged or something else."""


@runtime_checkable
class TextImageExtractor(Extractor, Protocol):
    """An extractor that also embeds captions, in the same space as images."""

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Embed captions."""


def load_clip(name: str, *, device: str = "cpu", precision: str = "float32") -> TextImageExtractor:
    """Load a CLIP by name: `shapes-clip`, one of OpenAI's names, or `MODEL:TAG_OR_PATH`.

    Raises:
        UnknownNameError: open_clip knows no such model or tag.
        MissingWeightsError: The weights are neither cached nor reachable.
    """
    check_precision(precision)
    if name == SHAPES_CLIP:
        from evalkit.features.shapes_clip import ShapesClipExtractor

        return ShapesClipExtractor(device=device, precision=precision)
    return OpenClipExtractor.from_name(name, device=device, precision=precision)


def is_known(name: str) -> bool:
    """Return whether open_clip has the named model, without loading it."""
    import open_clip

    return name in OPENAI_NAMES or name.partition(":")[0] in open_clip.list_models()


class OpenClipExtractor(PreparedExtractor):
    """An open_clip model as an extractor of images and captions.

    Args:
        name: Name of the extractor, for metrics and fingerprints.
        model: The network, with `encode_image` and `encode_text`.
        preprocessing: Prepares an image for the network.
        tokenize: Maps captions to a tensor of token ids.
        weights_sha256: Hash of the weights file.
        activation: `quickgelu` or `gelu`, where the weights are a file that could need either.
        device: Device of the network.
        precision: `float32` or `bf16`.
    """

    def __init__(
        self,
        name: str,
        *,
        model: torch.nn.Module,
        preprocessing: ClipPreprocessing,
        tokenize: Callable[..., torch.Tensor],
        weights_sha256: str,
        activation: str = "",
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        check_precision(precision)
        self.name = f"clip:{name}"
        self.device = torch.device(device)
        self.precision = precision
        self.preprocessing = self.preparer = preprocessing
        self.weights_sha256 = weights_sha256
        self.activation = activation
        self._tokenize = tokenize
        self._model: Any = model.to(self.device).eval().requires_grad_(False)
        probe = np.zeros((1, preprocessing.size_px, preprocessing.size_px, 3), np.float32)
        self.layers: Mapping[str, int] = {"image": self._images(probe).shape[1]}

    @classmethod
    def from_name(
        cls, name: str, *, device: str = "cpu", precision: str = "float32"
    ) -> OpenClipExtractor:
        """Build the model and load its weights from the cache, the hub or a file.

        Raises:
            UnknownNameError: open_clip knows no such model or tag.
            MissingWeightsError: The weights are neither cached nor reachable.
            WeightsError: The file holds another network.
        """
        import open_clip

        full = OPENAI_NAMES.get(name, name)
        model_name, tag = _parse(full)
        config = open_clip.get_pretrained_cfg(model_name, tag)
        path = _weights_path(full, tag, config)
        sha256 = sha256_of(path)
        quick_gelu, activation = bool(config.get("quick_gelu")), ""
        if not config:
            model_name, quick_gelu, activation = activation_of_file(model_name, path, sha256)
        model = _build(model_name, path, sha256, quick_gelu=quick_gelu, name=full)
        return cls(
            full if config else f"{model_name}:{path.name}",
            model=model,
            preprocessing=_preprocessing(model, config),
            tokenize=open_clip.get_tokenizer(model_name),
            weights_sha256=sha256,
            activation=activation,
            device=device,
            precision=precision,
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model, weights, preprocessing and precision."""
        return {
            "extractor": self.name,
            "weights_sha256": self.weights_sha256,
            "resize": f"{self.preprocessing.resize_mode} {self.preprocessing.interpolation} "
            f"{self.preprocessing.size_px}",
            "precision": self.precision,
            **({"activation": self.activation} if self.activation else {}),
        }

    def num_cut(self, captions: Sequence[str]) -> int:
        """Count the captions that are longer than the context and lose their end."""
        length = getattr(self._tokenize, "context_length", None)
        if not length or not captions:
            return 0
        padding = self._tokenize([""], context_length=length + 1)[0, -1]
        tokens = self._tokenize(list(captions), context_length=length + 1)
        return int((tokens[:, -1] != padding).sum())

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Compute image embeddings, not normalised."""
        return {"image": self._images(prepared)}

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Embed captions, not normalised; captions beyond the context length are truncated."""
        tokens = self._tokenize(list(captions)).to(self.device)
        with self._inference():
            return _to_numpy(self._model.encode_text(tokens))

    def _images(self, prepared: np.ndarray) -> Float32[np.ndarray, "n d"]:
        batch = torch.from_numpy(prepared).permute(0, 3, 1, 2).contiguous().to(self.device)
        with self._inference():
            return _to_numpy(self._model.encode_image(batch))

    def _inference(self) -> Any:
        return inference(self.device, self.precision)


class inference:  # noqa: N801 (used like a function)
    """Context without gradients and TF32, and with bfloat16 on request."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self._contexts: list[AbstractContextManager[Any]] = [
            torch.inference_mode(),
            full_float32(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ]

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


def _to_numpy(embeddings: torch.Tensor) -> Float32[np.ndarray, "n d"]:
    return embeddings.float().cpu().numpy()


def _parse(name: str) -> tuple[str, str]:
    import open_clip

    model_name, _, tag = name.partition(":")
    if model_name not in open_clip.list_models():
        known = [*OPENAI_NAMES, SHAPES_CLIP, *open_clip.list_models()]
        raise unknown(model_name, known, kind="CLIP models")
    return model_name, tag


def _weights_path(name: str, tag: str, config: Mapping[str, Any]) -> Path:
    import open_clip

    model_name = name.partition(":")[0]
    if not config:
        if tag and Path(tag).is_file():
            return Path(tag)
        if tag and Path(tag).suffix:
            raise MissingWeightsError(
                f"CLIP weights: {tag} does not exist. Give an existing path or a tag."
            )
        tags = open_clip.list_pretrained_tags_by_model(model_name)
        raise unknown(tag, tags, kind=f"weights of {model_name}s")
    repository = str(config.get("hf_hub", "")).rstrip("/")
    cached = cached_file(repository, CLIP_FILES) if repository else None
    return cached or _downloaded(name, config)


def _downloaded(name: str, config: Mapping[str, Any]) -> Path:
    import open_clip

    try:
        require_hub()
        return Path(open_clip.download_pretrained(dict(config)))
    except (NetworkError, OSError) as error:
        source = str(config.get("hf_hub") or config.get("url")).rstrip("/")
        raise missing_clip(name, source, error) from error


def activation_of_file(model_name: str, path: Path, sha256: str) -> tuple[str, bool, str]:
    """Decide the activation of a weights file, and say it where the file can't.

    Returns:
        The model's name; whether to force QuickGELU; and the activation in words, empty for models
        that come with one activation only.
    """
    import open_clip

    plain = model_name.removesuffix(_QUICK)
    if sha256 in openai_hashes():
        return plain, True, "quickgelu (OpenAI's file)"
    if f"{plain}{_QUICK}" not in open_clip.list_models():
        return model_name, False, ""
    tagged = open_clip.get_pretrained_cfg(plain, path.stem)
    if tagged:
        is_quick = bool(tagged.get("quick_gelu"))
        return plain, is_quick, f"{_word(is_quick)} (open_clip's tag {path.stem})"
    is_quick = model_name.endswith(_QUICK)
    other = plain if is_quick else f"{plain}{_QUICK}"
    errors.print(
        f"{path.name} runs with {_word(is_quick)}, the activation of {model_name}: the file "
        f"doesn't say which it needs. For the other one, give {other}:{path}.",
        markup=False,
        highlight=False,
    )
    return model_name, is_quick, _word(is_quick)


def openai_hashes() -> frozenset[str]:
    """Return the hashes of OpenAI's own files, which are part of their addresses."""
    import open_clip

    addresses = (
        open_clip.get_pretrained_cfg(model, tag).get("url", "")
        for model, tag in open_clip.list_pretrained()
        if tag == "openai"
    )
    return frozenset(found[1] for found in map(_HASH_IN_ADDRESS.search, addresses) if found)


def _word(is_quick: bool) -> str:
    return "quickgelu" if is_quick else "gelu"


def _build(
    model_name: str, path: Path, sha256: str, *, quick_gelu: bool, name: str
) -> torch.nn.Module:
    import open_clip

    refuse_foreign_weights(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, whose refusal is an error below
            if sha256 in openai_hashes():
                return _from_torchscript(model_name, path)
            model: torch.nn.Module = open_clip.create_model(
                model_name, pretrained=str(path), force_quick_gelu=quick_gelu, weights_only=True
            )
    except (*UNREADABLE, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or ["empty"])[0][:160]
        raise WeightsError(
            f"{path}: not weights of {name} ({reason}). Give another file."
        ) from error
    return model


def _from_torchscript(model_name: str, path: Path) -> torch.nn.Module:
    """Load one of OpenAI's own files: TorchScript, opened only because its hash is known."""
    import open_clip

    network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    state = network.state_dict()
    state = {key: value.float() for key, value in state.items() if key not in _OPENAI_EXTRAS}
    model: torch.nn.Module = open_clip.create_model(model_name, force_quick_gelu=True)
    model.load_state_dict(state)
    return model


def _preprocessing(model: Any, config: Mapping[str, Any]) -> ClipPreprocessing:
    size = model.visual.image_size
    chosen = {
        key: config[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in config
    }
    return ClipPreprocessing(size_px=size if isinstance(size, int) else size[0], **chosen)
