"""Put a bundle on a device over ssh."""
