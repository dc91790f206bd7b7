"""Policies under a language model: the same prompts, scored with traffic beside accuracy."""
