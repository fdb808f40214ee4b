"""Measurement protocols: named files that define how a number is measured."""
