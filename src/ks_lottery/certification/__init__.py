"""Certification: when the small model answers like the tuned one, by which bound, and how often it does not."""
