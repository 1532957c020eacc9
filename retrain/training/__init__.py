"""Train the head on bottlenecks, evaluate it, and export the retrained graph."""
