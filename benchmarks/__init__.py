"""Measurements, each against a peer in the same run. README.md has the figures."""
