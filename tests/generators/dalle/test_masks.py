"""DALL-E's attention masks against the rule, token by token."""

import pytest
import torch

from generators.dalle.masks import PATTERNS, attention_mask, layer_patterns
from generators.errors import ArchitectureError
from tests.reference.plain_dalle_masks import plain_mask


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("num_text", "grid_size", "kernel_size"), [(6, 4, 3), (3, 5, 5), (1, 3, 11), (2, 8, 3)]
)
def test_masks_follow_the_rule(pattern, num_text, grid_size, kernel_size):
    found = attention_mask(pattern, num_text=num_text, grid_size=grid_size, kernel_size=kernel_size)
    assert found.tolist() == plain_mask(pattern, num_text, grid_size, kernel_size)


def test_the_papers_example():
    """A 4 x 4 grid: the row pattern reaches back 5 tokens, itself among them; 3 x 3 windows."""

    def image_keys(pattern, query):
        mask = attention_mask(pattern, num_text=6, grid_size=4, kernel_size=3)
        assert mask[6 + query, :6].all()
        return mask[6 + query, 6:].nonzero().flatten().tolist()

    assert image_keys("row", 9) == [5, 6, 7, 8, 9]
    assert image_keys("column", 9) == [1, 5, 9]
    assert image_keys("convolution", 9) == [4, 5, 6, 8, 9]
    assert image_keys("convolution", 8) == [3, 4, 5, 7, 8]  # over the edge in raster order
    assert image_keys("full", 3) == [0, 1, 2, 3]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nobody_sees_the_future_and_everybody_sees_himself(pattern):
    mask = attention_mask(pattern, num_text=5, grid_size=6, kernel_size=3)
    assert not mask.triu(1).any()
    assert mask.diagonal().all()


def test_the_order_of_the_papers_64_layers():
    patterns = layer_patterns(64)
    assert patterns[:8] == ("row", "column", "row", "row", "row", "column", "row", "row")
    assert [i for i, p in enumerate(patterns, 1) if p == "column"] == list(range(2, 64, 4))
    assert [i for i, p in enumerate(patterns, 1) if p == "convolution"] == [64]


def test_a_window_has_a_middle():
    with pytest.raises(ArchitectureError, match="must be positive and odd, got 4"):
        attention_mask("row", num_text=1, grid_size=2, kernel_size=4)


def test_masks_are_real_while_a_network_is_only_planned():
    with torch.device("meta"):
        mask = attention_mask("row", num_text=2, grid_size=2)
    assert mask.device.type == "cpu"
