"""The table of networks that a recipe can train, by the name in its `network`.

A target takes (model, objective), the recipe's tables, and, where own data decide it, `Inputs`. It
returns a module whose `network` is trained and whose `forward` returns the mean loss of a batch,
all randomness from the batch's `draws`. It may have `prepare(data)`, called once before the first
step; `samples(network, batch)`, for the grids; `exported(network)`, the part that ships; and
`trained_with`, the hashes of the frozen networks that it reads.
"""

from __future__ import annotations

NETWORKS: dict[str, str] = {
    "glide-base": "generators.glide.training:GlideBaseTraining",
    "glide-upsampler": "generators.glide.training:GlideUpsamplerTraining",
    "clip": "generators.clip.training:ClipTraining",
    "dalle-dvae": "generators.dalle.training:DVAETraining",
    "dalle-dvae-decoding": "generators.dalle.training:DecodingTraining",
    "dalle-transformer": "generators.dalle.training:DalleTraining",
    "unclip-prior": "generators.unclip.training:DiffusionPriorTraining",
    "unclip-prior-ar": "generators.unclip.training:AutoregressivePriorTraining",
    "unclip-decoder": "generators.unclip.training:DecoderTraining",
    "unclip-upsampler": "generators.unclip.training:UnclipUpsamplerTraining",
    "imagen-t5": "generators.imagen.training:T5Training",
    "imagen-t5-taught": "generators.imagen.training:TaughtT5Training",
    "imagen-base": "generators.imagen.training:ImagenBaseTraining",
    "imagen-upsampler": "generators.imagen.training:ImagenUpsamplerTraining",
    "noised-clip": "generators.clip.training:NoisedClipTraining",
    "ddpm": "generators.ddpm.training:DdpmTraining",
    "noisy-classifier": "generators.ddpm.training:NoisyClassifierTraining",
}
