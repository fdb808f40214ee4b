"""The public entry to loading a network from a state dict; see `generators.weights.networks`."""

from generators.weights.networks import load_released

__all__ = ["load_released"]
