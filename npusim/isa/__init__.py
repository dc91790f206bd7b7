"""Bits and fields of descriptors. Each descriptor is declared once; decode, encode, disassembly and tests derive from
the declaration."""
