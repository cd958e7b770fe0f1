"""Measurements, each against a peer in the same run. See README.md for what was measured."""
