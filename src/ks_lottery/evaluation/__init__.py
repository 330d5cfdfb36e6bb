"""Measuring models: next-token predictions, translations, and their scores."""
