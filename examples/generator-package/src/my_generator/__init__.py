"""The row of the model in evalkit's lists; nothing heavy is imported here."""

from generators.catalog import ModelRow

ROW = ModelRow(
    target="my_generator.model:load",
    summary="a gradient whose colours come from the prompt",
    conditioning="text",
    size_px=64,
    weights="none",
)
