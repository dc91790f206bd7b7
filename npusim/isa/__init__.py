"""Bits and fields of the descriptors: one declaration each, from which decode, encode, disassembly and tests derive."""
