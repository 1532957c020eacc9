"""Image files: formats, metadata that is left out, orientation."""
