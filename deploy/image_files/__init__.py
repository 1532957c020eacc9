"""Read image files: their format, their orientation, their bytes without metadata."""
