"""unCLIP's own comparisons on unclip:tiny: what the decoder is told, and which prior tells it.

    python -m benchmarks.models.unclip_tiny [--n 200] [--out runs/unclip-tiny]

The paper (section 5.1): the decoder on the caption alone, on CLIP's text embedding in the place of
an image embedding, on the prior's image embedding; and both priors (section 5.2). Resumable.
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
    told = {
        name: {"set_options": (f"prior.embedding={value}",)} for name, value in EMBEDDINGS.items()
    }
    print_table("What the decoder is told", told, options)
    priors = {
        "diffusion, 2 candidates": {},
        "diffusion, 1 candidate": {"set_options": ("prior.candidates=1",)},
        "autoregressive, 2 candidates": {"model": options.model.replace("tiny", "tiny-ar", 1)},
    }
    print_table("Priors", priors, options)


if __name__ == "__main__":
    main()
