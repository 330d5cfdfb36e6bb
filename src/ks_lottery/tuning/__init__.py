"""Tuning: which rows each method trains, and the training itself."""
