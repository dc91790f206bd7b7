"""Bit-exact array arithmetic of the chip, in NumPy alone. The scalar twins in tests/spec decide what is right."""
