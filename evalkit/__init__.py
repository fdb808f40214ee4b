"""Which text-to-image model is better, by how much, and how sure are we?

`evalkit.score`, `evalkit.compare` and `evalkit.generate` are the commands of the same names, from
Python; `evalkit.api` has them. They are loaded at their first use, so that importing a part of the
package stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.api import (
        GeneratedImages,
        MeasureOptions,
        Results,
        SamplingOptions,
        compare,
        generate,
        score,
    )

__version__ = "0.1.0"
__all__ = [
    "GeneratedImages",
    "MeasureOptions",
    "Results",
    "SamplingOptions",
    "__version__",
    "compare",
    "generate",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module("evalkit.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
