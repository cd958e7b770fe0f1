"""What developers and `make run` need: a local Airflow, a local production stack, secrets, an audit of the lock."""
