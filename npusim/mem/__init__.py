"""Tensors in memory: which bytes of LMEM and GMEM a shape, its strides and an address mean."""
