"""Tensors in memory: which bytes of LMEM or GMEM belong to an address, a shape and strides."""
