"""Recipes: a table of names, and the TOML files that determine a training run."""
