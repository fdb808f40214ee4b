"""DALL-E (Ramesh et al. 2021): images as tokens, written after their caption by one transformer."""
