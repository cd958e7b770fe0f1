"""What the DAG files share. No other package imports Airflow, and no module here imports anything that takes seconds."""
