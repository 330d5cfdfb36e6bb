"""Models ready to run: loading, the row module, and the shared prefix."""
