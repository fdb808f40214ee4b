"""Guidance: moving samples towards a condition, at sampling only.

Classifier-free guidance changes what the network says and so wraps it. Classifier and CLIP
guidance are gradients, which the samplers take as `gradient`: ancestral sampling shifts the mean
(Dhariwal & Nichol 2021, algorithm 1), DDIM the score (algorithm 2).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t, network timesteps) to the network's output, the condition already bound."""
Gradient = Callable[[Tensor, Tensor], Tensor]
"""(x_t, network timesteps) to the gradient of log p(condition | x_t), scaled, of x_t's shape."""

IMAGE_CHANNELS = 3


def classifier_free(
    network: Denoiser, guidance_scale: float, *, guided_channels: int = IMAGE_CHANNELS
) -> Denoiser:
    """Apply classifier-free guidance (Ho & Salimans 2021; GLIDE, eq. 8).

    Both halves go through the network as one batch. The first channels are guided, eps_u + s
    (eps_c - eps_u); the variance's channels are the conditional half's. Guiding a predicted x_0 or
    v instead of eps is the same, since each is linear in the others at a given x_t.

    Args:
        network: Takes a batch of 2B, of which the first half has the condition and the second half
            the empty one.
        guidance_scale: s; 1 is no guidance, 0 no condition.
        guided_channels: How many there are; the width of what is diffused.

    Returns:
        A denoiser for batches of B.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        output = network(torch.cat([x_t, x_t]), torch.cat([t, t])).float()
        conditional, unconditional = output.chunk(2)
        eps_c, rest = conditional[:, :guided_channels], conditional[:, guided_channels:]
        eps_u = unconditional[:, :guided_channels]
        return torch.cat([eps_u + guidance_scale * (eps_c - eps_u), rest], dim=1)

    return guided


def classifier_gradient(
    classifier: Denoiser, labels: Int[Tensor, " batch"], guidance_scale: float
) -> Gradient:
    """Return scale * gradient of log p(label | x_t), of a classifier trained on noisy images."""

    def gradient(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            log_probabilities = classifier(x, t).log_softmax(dim=-1)
            chosen = log_probabilities.gather(1, labels[:, None]).sum()
            return guidance_scale * torch.autograd.grad(chosen, x)[0]

    return gradient


def clip_gradient(
    encode_image: Denoiser,
    text_embeddings: Float[Tensor, "batch width"],
    logit_scale: float,
    guidance_scale: float,
) -> Gradient:
    """Return scale * gradient of image-caption similarity, of a noised CLIP (GLIDE, eq. 9).

    Args:
        encode_image: (x_t, network timesteps) to image embeddings of length 1.
        text_embeddings: The captions', of length 1.
        logit_scale: What CLIP multiplies cosines with, such as 100.
        guidance_scale: s.

    The gradient is computed in float32 whatever the autocast around it, as all guidance is; in
    bfloat16, attention's backward pass would take nine times as long on a CPU.
    """

    def gradient(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad(), torch.autocast(x_t.device.type, enabled=False):
            x = x_t.detach().float().requires_grad_()
            similarity = (encode_image(x, t) * text_embeddings).sum() * logit_scale
            return guidance_scale * torch.autograd.grad(similarity, x)[0]

    return gradient
