"""Features of images: extractors, their resizing, and the store that remembers them."""
