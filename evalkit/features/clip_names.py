"""Names of CLIP models; importing them imports no torch."""

OPENAI_NAMES = {
    "ViT-B/32": "ViT-B-32-quickgelu:openai",
    "ViT-B/16": "ViT-B-16-quickgelu:openai",
    "ViT-L/14": "ViT-L-14-quickgelu:openai",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu:openai",
}
"""The names of the papers."""
SHAPES_CLIP = "shapes-clip"
