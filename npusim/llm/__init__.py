"""A language model on the chip: a Llama-family decoder with a paged, pruned cache lowered to static programs, and what
drives them."""
