"""unCLIP's ablations on unclip:tiny: conditioning of the decoder, and kind of prior.

    python -m benchmarks.models.unclip_tiny [--n 200] [--out runs/unclip-tiny]

From the paper: the decoder on the caption alone, on CLIP's text embedding in place of an image
embedding, and on the prior's image embedding (section 5.1); both priors (section 5.2). Resumable.
"""

from __future__ import annotations

from benchmarks.models.variants import parse_options, print_table

EMBEDDINGS = {
    "caption alone": "none",
    "CLIP's text embedding": "text",
    "image embedding of the prior": "prior",
}


def main() -> None:
    """Print both tables."""
    options = parse_options(
        __doc__.splitlines()[0], model="unclip:tiny", n=200, out="runs/unclip-tiny"
    )
    conditioning = {
        name: {"set_options": (f"prior.embedding={value}",)} for name, value in EMBEDDINGS.items()
    }
    print_table("Conditioning of the decoder", conditioning, options)
    priors = {
        "diffusion, 2 candidates": {},
        "diffusion, 1 candidate": {"set_options": ("prior.candidates=1",)},
        "autoregressive, 2 candidates": {"model": options.model.replace("tiny", "tiny-ar", 1)},
    }
    print_table("Priors", priors, options)


if __name__ == "__main__":
    main()
