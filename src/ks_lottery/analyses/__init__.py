"""What the paper reads off tickets: tables 3, 6 and 8."""
