"""The Fréchet distance: moments, the distance itself, its interval, and what each image adds."""
