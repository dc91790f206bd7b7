"""Where a program's time goes: one Profile of a timeline, and what prints it."""
