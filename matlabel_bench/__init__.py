"""matlabel_bench: pseudo-labels for weakly supervised semantic segmentation, measured under one protocol."""

__version__ = "0.1.0"
