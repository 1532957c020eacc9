"""Read a network of the user's own as a backbone."""
