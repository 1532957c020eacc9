"""Cut a backbone out of a graph and simplify it."""
