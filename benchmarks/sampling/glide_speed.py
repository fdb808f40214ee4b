"""Speed of GLIDE's released base network: one evaluation of a guided pair, with random weights.

    python -m benchmarks.sampling.glide_speed [--repeats 3]

It compares a plain reference that encodes the prompts at each evaluation
(`tests/reference/plain_unet.py`) and our network with the text states computed once: in float32,
in bfloat16 (`--bf16`) and compiled (`--compile-model`, whose compilation is not counted). First a
process of its own loads our network and evaluates one pair: its peak is the memory that one
evaluation needs. Run it alone on the machine; it takes about four minutes and 8 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.glide.model import Text2ImUNet
from generators.glide.presets import CONTEXT_LENGTH, RELEASED_BASE, VOCABULARY_SIZE
from generators.numerics import Numerics

SEED = 0
REFERENCE = Path(__file__).parents[2] / "tests" / "reference" / "plain_unet.py"
LEAST_SPEEDUP = 1.1
LEAST_SPEEDUPS = {"bf16": 1.4, "compiled": 1.1}


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


def our_network(numerics: Numerics) -> Text2ImUNet:
    """Build our network with the random weights, as a generator with these options holds it."""
    network = Text2ImUNet(RELEASED_BASE).to(memory_format=torch.channels_last).eval()
    random_weights(network)
    network.requires_grad_(False)
    numerics.apply(network)
    return network


def guided_pair() -> dict[str, Tensor]:
    """Draw the inputs of one evaluation: a prompt of twelve tokens and an empty one."""
    generator = torch.Generator().manual_seed(SEED)
    return {
        "x": torch.randn(2, 3, 64, 64, generator=generator),
        "t": torch.tensor([500, 500]),
        "tokens": torch.randint(VOCABULARY_SIZE, (2, CONTEXT_LENGTH), generator=generator),
        "mask": torch.arange(CONTEXT_LENGTH).expand(2, -1) < torch.tensor([[12], [0]]),
    }


@torch.no_grad()
def evaluation(numerics: Numerics) -> Callable[[], Tensor]:
    """Return a call that evaluates our network on the pair; its prompts are encoded already."""
    network, pair = our_network(numerics), guided_pair()
    with numerics.autocast("cpu"):
        text = network.encode_text(pair["tokens"], pair["mask"])

    def evaluate() -> Tensor:
        with numerics.autocast("cpu"):
            return network(pair["x"], pair["t"], text=text)

    return evaluate


@torch.no_grad()
def print_peak() -> None:
    """Print the peak memory of this process after one evaluation in float32."""
    evaluation(Numerics())()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"our network alone, float32: peak {peak:.2f} GiB")


@torch.no_grad()
def main() -> None:
    """Print the peak memory, seconds and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    child = multiprocessing.get_context("spawn").Process(target=print_peak)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"The process that measures the peak ended with {child.exitcode}.")
    pair = guided_pair()
    reference = plain_reference(our_network(Numerics()).state_dict())
    plain, expected = median_seconds(lambda: reference(**pair), options.repeats)
    print(f"GLIDE released base, one guided pair, {torch.get_num_threads()} threads")
    print("| | seconds | times as fast as float32 | relative error |\n|---|---|---|---|")
    modes = {
        "float32": Numerics(),
        "bf16": Numerics(bf16=True),
        "compiled": Numerics(compiled=True),
    }
    ours: dict[str, float] = {}
    for name, numerics in modes.items():
        ours[name], output = median_seconds(evaluation(numerics), options.repeats)
        ratio, error = ours["float32"] / ours[name], relative_error(output, expected)
        print(f"| ours, {name} | {ours[name]:.2f} | {ratio:.2f} | {error:.1e} |", flush=True)
    ratio = ours["float32"] / plain
    print(f"| plain reference, text encoded each time | {plain:.2f} | {ratio:.2f} | 0 |")
    for name, fast in LEAST_SPEEDUPS.items():
        verdict = "holds" if ours["float32"] / ours[name] >= fast else "MISSED"
        print(f"{name} at least {fast} times as fast as float32: {verdict}")
    verdict = "holds" if plain / ours["float32"] >= LEAST_SPEEDUP else "MISSED"
    print(f"float32 at least {LEAST_SPEEDUP} times as fast as the reference: {verdict}")


if __name__ == "__main__":
    main()
