"""How results look: sections of raw values, the forms of values, and what prints them. Content in, text out."""
