"""Checking the store against its records, and removing what nothing needs any more."""
