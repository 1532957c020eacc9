"""Show a run on one page."""
