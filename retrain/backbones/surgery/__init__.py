"""Cut a backbone out of a foreign graph and simplify it."""
