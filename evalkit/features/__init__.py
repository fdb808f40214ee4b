"""Image features: extractors, their preprocessing, and the feature store."""
