"""The statistics: arrays in, arrays out; no I/O, no models, no tokens."""
