"""The literal table of recipes; importing it reads no file and imports nothing heavy.

Another package adds a recipe by an entry point in `evalkit.recipes` that names a `RecipeRow`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from evalkit.core.errors import ConfigError
from evalkit.core.registry import Catalog


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """One recipe that `evalkit train` knows by name."""

    summary: str
    """One line for lists."""
    network: str
    """The row of `generators.training.networks.NETWORKS` that it trains."""
    file: str
    """Its TOML file, relative to the folder of `package`."""
    package: str = "generators.training"
    """The importable package that ships the file."""

    def path(self) -> Path:
        """Return the path of the TOML file.

        Raises:
            ConfigError: The package does not ship it.
        """
        path = Path(str(files(self.package))) / self.file
        if not path.is_file():
            raise ConfigError(
                f"{self.package} ships no recipe file {self.file}: {path} does not exist. "
                "Reinstall the package."
            )
        return path


def _ours(name: str, network: str, summary: str) -> RecipeRow:
    return RecipeRow(summary=summary, network=network, file=f"recipes/{name}.toml")


RECIPES: dict[str, RecipeRow] = {
    "clip-tiny": _ours(
        "clip-tiny", "clip", "CLIP of 64 px scenes, for the models' own use: the second training"
    ),
    "clip-tiny-first": _ours("clip-tiny-first", "clip", "CLIP of 64 px scenes: the first training"),
    "clip-tiny-judge": _ours(
        "clip-tiny-judge",
        "clip",
        "CLIP that only scores: other initial weights, width and images than `clip-tiny`",
    ),
    "clip-tiny-noised": _ours(
        "clip-tiny-noised",
        "noised-clip",
        "CLIP of noisy 16 px images, which guides the base of `glide:tiny`: the second training",
    ),
    "clip-tiny-noised-first": _ours(
        "clip-tiny-noised-first", "noised-clip", "CLIP of noisy 16 px images: the first training"
    ),
    "dalle-tiny-dvae": _ours(
        "dalle-tiny-dvae",
        "dalle-dvae-decoding",
        "DALL-E's discrete VAE: the third training, its decoder alone",
    ),
    "dalle-tiny-dvae-first": _ours(
        "dalle-tiny-dvae-first", "dalle-dvae", "DALL-E's discrete VAE: the first training"
    ),
    "dalle-tiny-dvae-second": _ours(
        "dalle-tiny-dvae-second",
        "dalle-dvae",
        "DALL-E's discrete VAE: the second training, sharp codes",
    ),
    "dalle-tiny-transformer": _ours(
        "dalle-tiny-transformer",
        "dalle-transformer",
        "DALL-E's transformer of captions and codes: the third training, for guidance",
    ),
    "dalle-tiny-transformer-first": _ours(
        "dalle-tiny-transformer-first",
        "dalle-transformer",
        "DALL-E's transformer: the first training",
    ),
    "dalle-tiny-transformer-second": _ours(
        "dalle-tiny-transformer-second",
        "dalle-transformer",
        "DALL-E's transformer: the second training, which learns what belongs together",
    ),
    "ddpm-tiny": _ours("ddpm-tiny", "ddpm", "DDPM of all scenes, 16 px"),
    "ddpm-tiny-class": _ours(
        "ddpm-tiny-class", "ddpm", "DDPM conditioned on the shape, scenes of one object, 16 px"
    ),
    "ddpm-tiny-classifier": _ours(
        "ddpm-tiny-classifier",
        "noisy-classifier",
        "noisy classifier of shapes, which guides `ddpm:tiny-class`",
    ),
    "glide-released-base": _ours(
        "glide-released-base", "glide-base", "fine-tuning of glide:released's base on own images"
    ),
    "glide-released-upsampler": _ours(
        "glide-released-upsampler",
        "glide-upsampler",
        "fine-tuning of glide:released's upsampler on own images",
    ),
    "glide-tiny-base": _ours(
        "glide-tiny-base",
        "glide-base",
        "GLIDE's base, 16 px: the second training",
    ),
    "glide-tiny-base-first": _ours(
        "glide-tiny-base-first", "glide-base", "GLIDE's base, 16 px: from random weights"
    ),
    "glide-tiny-upsampler": _ours(
        "glide-tiny-upsampler",
        "glide-upsampler",
        "GLIDE's upsampler, 16 to 64 px: the second training",
    ),
    "glide-tiny-upsampler-first": _ours(
        "glide-tiny-upsampler-first",
        "glide-upsampler",
        "GLIDE's upsampler, 16 to 64 px: the first training",
    ),
    "imagen-tiny-t5": _ours(
        "imagen-tiny-t5",
        "imagen-t5-taught",
        "T5 of Imagen: the second training, on the text states of `glide-tiny-base`",
    ),
    "imagen-tiny-t5-first": _ours(
        "imagen-tiny-t5-first", "imagen-t5", "T5 of Imagen: the first training, on captions alone"
    ),
    "imagen-tiny-base": _ours(
        "imagen-tiny-base", "imagen-base", "Imagen's base, 16 px: the second training"
    ),
    "imagen-tiny-base-first": _ours(
        "imagen-tiny-base-first", "imagen-base", "Imagen's base, 16 px: the first training"
    ),
    "imagen-tiny-sr1": _ours(
        "imagen-tiny-sr1",
        "imagen-upsampler",
        "Imagen's Efficient U-Net, 16 to 32 px: the second training",
    ),
    "imagen-tiny-sr1-first": _ours(
        "imagen-tiny-sr1-first",
        "imagen-upsampler",
        "Imagen's Efficient U-Net, 16 to 32 px: the first training",
    ),
    "imagen-tiny-sr2": _ours(
        "imagen-tiny-sr2",
        "imagen-upsampler",
        "Imagen's Efficient U-Net, 32 to 64 px: the second training",
    ),
    "imagen-tiny-sr2-first": _ours(
        "imagen-tiny-sr2-first",
        "imagen-upsampler",
        "Imagen's Efficient U-Net, 32 to 64 px: the first training",
    ),
    "unclip-tiny-prior": _ours("unclip-tiny-prior", "unclip-prior", "unCLIP's diffusion prior"),
    "unclip-tiny-prior-ar": _ours(
        "unclip-tiny-prior-ar", "unclip-prior-ar", "unCLIP's autoregressive prior"
    ),
    "unclip-tiny-decoder": _ours(
        "unclip-tiny-decoder", "unclip-decoder", "unCLIP's decoder, 16 px"
    ),
    "unclip-tiny-sr1": _ours(
        "unclip-tiny-sr1", "unclip-upsampler", "unCLIP's upsampler, 16 to 32 px"
    ),
    "unclip-tiny-sr2": _ours(
        "unclip-tiny-sr2", "unclip-upsampler", "unCLIP's upsampler, 32 to 64 px"
    ),
}

CATALOG = Catalog("recipes", RECIPES, RecipeRow)
"""Built-in recipes and those of other packages."""
