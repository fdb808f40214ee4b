"""Text-to-image systems: prompts and seeds in, uint8 images out."""
