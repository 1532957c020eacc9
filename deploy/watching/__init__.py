"""Watch a camera or a folder, and act on a change of label."""
