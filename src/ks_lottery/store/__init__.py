"""How files are written, named and found again: manifests, run folders, downloads."""
