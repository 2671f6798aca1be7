"""The words that settings of the data choose from. Nothing here needs torch."""

__all__ = ["BINARIZE", "CHANNELS", "SCALES"]

BINARIZE = ("none", "threshold", "static", "dynamic")
SCALES = ("none", "unit", "standard")
CHANNELS = ("first", "last")
