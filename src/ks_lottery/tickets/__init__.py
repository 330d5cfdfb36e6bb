"""Tickets: what fine-tuning changed, which rows are selected, and what they are."""
