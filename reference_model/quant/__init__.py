"""The model in the chip's own arithmetic: bf16 patterns in, bf16 patterns out, the bits that the TIU and the TDMA
give."""
