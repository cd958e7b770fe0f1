"""A small Airflow on this machine: processes that are started, watched and stopped together, and a client of its REST API."""
