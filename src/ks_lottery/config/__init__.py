"""Settings: every dataclass that flags, YAML and library calls share."""
