"""Measurements for the documentation, run by hand; not part of the wheel."""
