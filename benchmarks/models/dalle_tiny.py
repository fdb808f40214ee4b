"""DALL-E's sampling options: number of candidates for re-ranking, temperature, top-k.

    python -m benchmarks.models.dalle_tiny [--model dalle:tiny] [--n 200] [--out runs/dalle-tiny]

The paper (section 3.3, figure 6) shows that quality improves with the number of candidates. Here
clip:tiny re-ranks and clip:tiny-judge scores; the first table supports any text model, such as
`--model glide:tiny`. Resumable.
"""

from __future__ import annotations

from benchmarks.models.variants import parse_options, print_table

CANDIDATES = (1, 4, 16)
SAMPLING = {
    "temperature 1": {},
    "temperature 0.8": {"set_options": ("temperature=0.8",)},
    "temperature 1, top 50": {"set_options": ("top_k=50",)},
    "the likeliest code": {"set_options": ("temperature=0",)},
}


def main() -> None:
    """Print both tables."""
    options = parse_options(
        __doc__.splitlines()[0], model="dalle:tiny", n=200, out="runs/dalle-tiny"
    )
    picked = {
        f"best of {count}": {"candidates": count, "rerank": "clip:tiny"} for count in CANDIDATES
    }
    print_table("Candidates", picked, options)
    if options.model.startswith("dalle"):
        print_table("Temperature and top-k", SAMPLING, options)


if __name__ == "__main__":
    main()
