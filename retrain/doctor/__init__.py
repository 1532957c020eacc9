"""Find what is wrong with the photos of a data set."""
