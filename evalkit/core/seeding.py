"""One seed per image: `seed = f(run seed, caption id, sample index)`, and nothing else.

Batch size, worker, order, device and resuming therefore don't change the noise, and two models or
guidance scales with the same captions share their noise.
"""

import hashlib

CANDIDATE_RULE = (
    "candidate 0: the image's own seed; candidate k: sha256(seed/candidate k)[:63 bits]"
)
SEED_RULE = "sha256(run_seed/caption_id/sample_index)[:63 bits]"


def image_seed(run_seed: int, caption_id: str, sample_index: int) -> int:
    """Derive the seed of one image.

    Returns:
        A non-negative integer below 2**63.

    >>> image_seed(0, "42", 0) == image_seed(0, "42", 0)
    True
    >>> image_seed(0, "42", 0) == image_seed(0, "42", 1)
    False
    """
    digest = hashlib.sha256(f"{run_seed}/{caption_id}/{sample_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def candidate_seed(seed: int, candidate: int) -> int:
    """Derive the seed of one of an image's candidates; the first has the image's own seed.

    One candidate thus gives the run without re-ranking, and four are the first of sixteen.

    >>> candidate_seed(7, 0), candidate_seed(7, 1) == candidate_seed(7, 2)
    (7, False)
    """
    if candidate == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/candidate {candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
