"""Parallel text: reading, cleaning, splitting, and showing it to a model."""
