"""The oldest Python and packages that the device's code runs with.

An older Python can parse this file, as `__main__` needs it to say that it is too old.
"""

OLDEST_PYTHON = (3, 11)  # of Raspberry Pi OS Bookworm
MIN_VERSIONS = {"click": "8.1", "numpy": "1.24", "pillow": "9.4"}
# Older versions of LiteRT may crash on a damaged model.
LITERT, MIN_LITERT = "ai-edge-litert", "2.3"
TFLITE_RUNTIME = ("tflite-runtime==2.14.0", "numpy<2")
"""What pip installs where LiteRT has no wheels, up to Python 3.11."""
