"""Train what lies above the cut, evaluate it and export the graph."""
