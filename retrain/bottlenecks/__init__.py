"""Compute what lies below the cut once for each photo, and cache it."""
