"""Recipes: configs of the main job that are worth a name."""
