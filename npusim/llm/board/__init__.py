"""A lowered model as files that run on a board without npusim."""
