"""Imagen (Saharia et al. 2022): a frozen text encoder and a cascade of three diffusion models."""
