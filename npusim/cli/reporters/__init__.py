"""Reporters turn results into text, tables and pictures. They know nothing of arguments or paths."""
