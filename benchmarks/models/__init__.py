"""The tiny models: quality, design choices and training time."""
