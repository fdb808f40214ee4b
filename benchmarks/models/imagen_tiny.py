"""Imagen's ablations on imagen:tiny: thresholding at high guidance, and augmentation level.

    python -m benchmarks.models.imagen_tiny [--n 200] [--out runs/imagen-tiny]

From the paper (section 4.4): dynamic thresholding prevents saturation at high guidance; the
augmentation level trades detail for fidelity to the low-resolution image. Resumable.
"""

from __future__ import annotations

from benchmarks.models.variants import parse_options, print_table

HIGH_GUIDANCE = ("3", "8", "15")
LEVELS = ("0", "0.1", "0.2", "0.3", "0.5")


def main() -> None:
    """Print both tables."""
    options = parse_options(
        __doc__.splitlines()[0], model="imagen:tiny", n=200, out="runs/imagen-tiny"
    )
    thresholds = {
        f"guidance {guidance}, {threshold}": {
            "guidance": f"base={guidance}",
            "set_options": (f"base.threshold={threshold}",),
        }
        for guidance in HIGH_GUIDANCE
        for threshold in ("dynamic", "static")
    }
    print_table("Thresholds of the base", thresholds, options)
    levels = {
        f"aug level {level}": {"set_options": (f"sr1.aug_level={level},sr2.aug_level={level}",)}
        for level in LEVELS
    }
    print_table("Augmentation level of both upsamplers", levels, options)


if __name__ == "__main__":
    main()
