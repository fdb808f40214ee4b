"""CLIP (Radford et al. 2021): one space for images and captions."""
