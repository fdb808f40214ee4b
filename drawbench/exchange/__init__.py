"""Votes to and from files: exports, imports, Label Studio, crowd platforms."""
