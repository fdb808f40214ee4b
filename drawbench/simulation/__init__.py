"""Simulated raters, for tests, planning and rehearsals."""
