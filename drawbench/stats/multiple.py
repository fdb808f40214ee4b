"""Many tests at once: how to keep the chance of any false alarm at that of a single one."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.core.registry import require


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    multitest = require("statsmodels.stats.multitest", extra="study", what="Holm's correction")
    return [float(p) for p in multitest.multipletests(list(p_values), method="holm")[1]]
