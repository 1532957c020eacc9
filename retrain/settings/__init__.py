"""Every setting of a run with its default."""
