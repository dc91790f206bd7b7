"""Bit-exact array arithmetic of the chip: in NumPy, and some of it compiled where Numba is installed.

The scalar twins in tests/spec decide what is right."""
