"""What a person sees: progress on the screen, tables and files, from saved artifacts alone."""
