"""What is tried out beside the daily run: a comparison with papers, and the search for better hyperparameters."""
