"""Shelf 2: recognition models q(z | x), one file each. A new file is found by its name."""
