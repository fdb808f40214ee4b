"""Captioned images: COCO, the drawn `shapes`, and plain folders."""
