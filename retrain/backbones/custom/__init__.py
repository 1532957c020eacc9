"""Read a network of the user's own, and load it as a backbone."""
