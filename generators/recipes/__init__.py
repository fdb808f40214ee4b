"""Recipes: what decides what a training run makes, as a table of names and TOML files."""
