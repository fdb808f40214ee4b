"""Start-up time of the light commands, compared with a bare interpreter.

python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 5
COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "evalkit --help": [sys.executable, "-m", "evalkit.cli", "--help"],
    "evalkit list": [sys.executable, "-m", "evalkit.cli", "list"],
}


def seconds(command: list[str]) -> float:
    """Measure the wall time of one run."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print medians, and what each adds to the interpreter's own start."""
    medians = {
        name: statistics.median(seconds(command) for _ in range(RUNS))
        for name, command in COMMANDS.items()
    }
    bare = medians["bare interpreter"]
    for name, median in medians.items():
        print(f"{name:20} {median:6.3f} s   +{median - bare:.3f} s")


if __name__ == "__main__":
    main()
