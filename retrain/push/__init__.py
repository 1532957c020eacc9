"""Copy a bundle to a device over ssh, and install it there."""
