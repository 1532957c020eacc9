"""The laptop side: from a folder of photos to a quantized TFLite classifier."""

__version__ = "0.1.0"
