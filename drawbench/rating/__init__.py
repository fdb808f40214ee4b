"""The rating session without a browser, its server, and screenshots of it."""

from drawbench.rating.session import begin, screen_for

__all__ = ["begin", "screen_for"]
