"""Photos in: folder, lists, split, distortion, sample data sets."""
