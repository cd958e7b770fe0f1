"""The read-out: turns a model's scores into the probabilities that are ranked and shown."""
