"""What Imagen's networks learn from beside their data: GLIDE's text transformer, CLIP's guidance.

On purpose no modules of the networks that learn: their weights stay out of checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.clip.noised import NoisedClip
from generators.diffusion.process import DiffusionProcess, lookup
from generators.glide.model import Text2ImUNet
from generators.tokenizer import tiny_tokenizer
from generators.training.steps import on_device
from generators.weights.zoo import weights_named


class GlideTeacher:
    """The text transformer of a GLIDE's base, which Imagen's text path can learn from.

    Args:
        name: A GLIDE base of the zoo, or a file of `evalkit train`.
    """

    def __init__(self, name: str) -> None:
        weights = weights_named(name)
        self.network = weights.network(Text2ImUNet, name).requires_grad_(False)
        self.tokenizer = tiny_tokenizer()
        self.trained_with = {weights.recipe.name: weights.sha256}

    @torch.no_grad()
    def read(self, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the states of all tokens (B, L, W), and the vector added to the timestep."""
        network = self.network.to(device)
        assert network.text is not None
        tokens = on_device(self.tokenizer, captions, network.text.text_ctx, device)
        with torch.autocast(device.type, enabled=False):
            states = network.read_text(tokens.ids, tokens.mask)
            return states, network.transformer_proj(states[:, -1])


class ClipTeacher:
    """A noised CLIP, whose guidance a base network can learn to give without it.

    Guidance adds to every step of sampling a gradient that is a function of the noisy image and the
    caption: just what the network is a function of (as classifier-free guidance was distilled:
    Meng et al. 2023).

    Args:
        name: A noised CLIP of the zoo, or a file of `evalkit train`.
        schedule: Of the network that learns; the CLIP has to know its noise.

    Raises:
        ConfigError: The CLIP was trained on another schedule.
        MissingWeightsError: There are no such weights.
    """

    def __init__(self, name: str, schedule: str) -> None:
        weights = weights_named(name)
        known = weights.recipe.objective.get("schedule")
        if known != schedule:
            raise ConfigError(
                f"objective.clip: {name} knows the noise of schedule {known!r}, but this network "
                f"learns on {schedule!r}. Train a noised CLIP on that schedule, or leave clip out."
            )
        self.clip = NoisedClip.of(weights, name)
        self.trained_with = {weights.recipe.name: weights.sha256}

    def shift(
        self,
        captions: Sequence[str],
        x_t: Float[Tensor, "batch channels height width"],
        t: Int[Tensor, " batch"],
        process: DiffusionProcess,
        scale: float,
    ) -> Float[Tensor, "batch channels height width"]:
        """Return what CLIP guidance of a scale takes from eps: sqrt(1 - alpha_bar) its gradient."""
        self.clip.network.to(x_t.device)
        gradient = self.clip.gradient(captions, scale, str(x_t.device))
        sigma = lookup(np.sqrt(1 - process.alpha_bar), t, x_t)
        return sigma * gradient(x_t, process.network_timesteps(t))
