"""Speed of GLIDE's released base network: one evaluation of a guided pair, with random weights.

    python -m benchmarks.sampling.glide_speed [--repeats 3]

It compares a plain reference that encodes the prompts at each evaluation
(`tests/reference/plain_unet.py`), our network with the text states computed once, and our network
in bfloat16. Run it alone on the machine; it takes about a minute and 4 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.glide.model import Text2ImUNet
from generators.glide.presets import CONTEXT_LENGTH, RELEASED_BASE, VOCABULARY_SIZE

SEED = 0
REFERENCE = Path(__file__).parents[2] / "tests" / "reference" / "plain_unet.py"
LEAST_SPEEDUP = 1.1


def plain_reference(state: Mapping[str, Tensor]) -> Callable[..., Tensor]:
    """Load the reference implementation from its file: other packages have a `tests` too."""
    spec = importlib.util.spec_from_file_location("plain_unet", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: Callable[..., Tensor] = module.PlainUNet(state, flat_settings())
    return network


def random_weights(network: nn.Module) -> None:
    """Fill all weights at random: branches initialised to zero would not affect the output."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.normal_(generator=generator).div_(fan_in**0.5)


def flat_settings() -> dict[str, object]:
    """Return the configuration in the released code's notation."""
    text = RELEASED_BASE.text
    assert text is not None
    return {**dataclasses.asdict(RELEASED_BASE.unet), **dataclasses.asdict(text)}


def median_seconds(call: Callable[[], Tensor], repeats: int) -> tuple[float, Tensor]:
    """Measure the median time of a call after a warm-up; return it and the result."""
    result = call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Compute the relative L2 distance."""
    return float((actual.float() - expected).norm() / expected.norm())


@torch.no_grad()
def main() -> None:
    """Print seconds and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    network = Text2ImUNet(RELEASED_BASE).to(memory_format=torch.channels_last).eval()
    random_weights(network)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(2, 3, 64, 64, generator=generator)
    t = torch.tensor([500, 500])
    tokens = torch.randint(VOCABULARY_SIZE, (2, CONTEXT_LENGTH), generator=generator)
    mask = torch.arange(CONTEXT_LENGTH).expand(2, -1) < torch.tensor([[12], [0]])
    reference = plain_reference(network.state_dict())
    text = network.encode_text(tokens, mask)

    def in_bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x, t, text=text)

    plain, expected = median_seconds(
        lambda: reference(x, t, tokens=tokens, mask=mask), options.repeats
    )
    ours, output = median_seconds(lambda: network(x, t, text=text), options.repeats)
    rounded, rough = median_seconds(in_bf16, options.repeats)
    print(f"GLIDE released base, one guided pair, {torch.get_num_threads()} threads")
    print("| | seconds | times as fast | relative error |\n|---|---|---|---|")
    print(f"| plain reference, text encoded each time | {plain:.2f} | 1.00 | 0 |")
    for name, seconds, result in (("ours, float32", ours, output), ("ours, bf16", rounded, rough)):
        error = relative_error(result, expected)
        print(f"| {name} | {seconds:.2f} | {plain / seconds:.2f} | {error:.1e} |")
    verdict = "holds" if plain / ours >= LEAST_SPEEDUP else "MISSED"
    print(f"at least {LEAST_SPEEDUP} times as fast in float32: {verdict}")


if __name__ == "__main__":
    main()
