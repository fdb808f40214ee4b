"""Speed-up of DALL-E's sampling by its key-value cache, and equality of the logits.

    python -m benchmarks.sampling.dalle_cache [--batch-size 8] [--grid 16] [--runs 3]

Random weights at the width and depth of dalle:tiny, 24 text tokens and grid x grid image tokens;
run it alone on the machine. Prints seconds per batch (median of the runs) and the largest relative
difference of the logits over all positions.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from generators.dalle.model import DalleConfig, DalleTransformer
from generators.dalle.pipeline import sample_codes
from generators.diffusion.noise import image_rngs
from generators.recipes.recipe import load_recipe


def main() -> None:
    """Print both times, their ratio and the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--grid", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    network = random_network(options.grid)
    config = network.config
    text = torch.randint(
        config.text_vocab,
        (options.batch_size, config.text_length),
        generator=torch.Generator().manual_seed(0),
    )
    tokens = config.num_image_tokens
    print(
        f"width {config.width}, {config.layers} layers, {tokens} image tokens, batch "
        f"{options.batch_size}, {torch.get_num_threads()} threads"
    )
    print(f"largest relative difference of the logits: {difference(network, text):.1e}")
    cached = [seconds(network, text, cached=True) for _ in range(options.runs)]
    whole = [seconds(network, text, cached=False) for _ in range(options.runs)]
    middle = options.runs // 2
    fast, slow = sorted(cached)[middle], sorted(whole)[middle]
    print(f"with the cache {fast:.2f} s, without {slow:.2f} s: {slow / fast:.1f} times faster")


def random_network(grid_size: int) -> DalleTransformer:
    """Build dalle:tiny's transformer over a grid of another size, with random weights."""
    config = DalleConfig.from_flat(load_recipe("dalle-tiny-transformer").model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return DalleTransformer(replace(config, grid_size=grid_size)).eval()


def seconds(network: DalleTransformer, text: torch.Tensor, *, cached: bool) -> float:
    """Measure the wall time of one batch."""
    started = time.perf_counter()
    sample_codes(network, text, image_rngs(range(len(text))), cached=cached)
    return time.perf_counter() - started


@torch.inference_mode()
def difference(network: DalleTransformer, text: torch.Tensor) -> float:
    """Return the worst position's relative L2 distance of cached from uncached logits."""
    count = network.config.num_image_tokens
    image = torch.randint(
        network.config.image_vocab, (len(text), count), generator=torch.Generator().manual_seed(1)
    )
    whole = network(text, image)[1]
    logits, cache = network.begin(text)
    worst = 0.0
    for place in range(count):
        if place:
            logits = network.advance(image[:, place - 1], cache)
        error = (logits - whole[:, place]).norm() / whole[:, place].norm()
        worst = max(worst, float(error))
    return worst


if __name__ == "__main__":
    main()
