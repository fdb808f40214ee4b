"""The Fréchet distance: moments, the distance, its interval, and the influence of each image."""
