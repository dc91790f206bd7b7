"""Bit-exact array arithmetic of the chip. NumPy only; what is right is decided by the scalar twins in tests/spec."""
