"""Measured claims about this project: `python -m benchmarks` lists them with their last figures."""
