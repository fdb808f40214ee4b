"""GLIDE: text-guided diffusion (Nichol et al. 2021)."""
