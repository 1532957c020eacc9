"""Convert the frozen graph to a TFLite model and check it."""
