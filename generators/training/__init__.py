"""Training of the tiny models: recipes in, a checkpoint in safetensors out."""
