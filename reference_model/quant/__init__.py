"""The model in the chip's own arithmetic.

Tensors are bf16 patterns, with the bits that the TIU and the TDMA give."""
