"""Shelf 1: generative models p(x, z), one file each. A new file is found by its name."""
