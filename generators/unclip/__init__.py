"""unCLIP, known as DALL-E 2 (Ramesh et al. 2022): caption to CLIP embedding to image."""
