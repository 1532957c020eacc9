"""Quantize a frozen graph to a TFLite flatbuffer."""
