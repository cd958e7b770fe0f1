"""Experiments outside the daily run: comparison with papers, and hyperparameter search."""
