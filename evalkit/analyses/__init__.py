"""Questions that need many measurements: protocols compared, sweeps, variance, known answers."""
