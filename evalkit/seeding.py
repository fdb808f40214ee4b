"""One seed per image: `seed = f(run seed, caption id, sample index)`, and nothing else.

Batch size, worker, order, device and resuming therefore can't change what is drawn, and two models
or guidance scales that are given the same captions share their noise.
"""

import hashlib

SEED_RULE = "sha256(run_seed/caption_id/sample_index)[:63 bits]"


def image_seed(run_seed: int, caption_id: str, sample_index: int) -> int:
    """Seed of one image.

    Returns:
        A non-negative integer below 2**63.

    >>> image_seed(0, "42", 0) == image_seed(0, "42", 0)
    True
    >>> image_seed(0, "42", 0) == image_seed(0, "42", 1)
    False
    """
    digest = hashlib.sha256(f"{run_seed}/{caption_id}/{sample_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
