"""The diffusion process, its losses and its samplers; they know no network."""
