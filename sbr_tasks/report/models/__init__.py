"""What the Models page in Airflow's navigation shows, as JSON, and the files that show it; `plugins/` serves both."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""HTML, CSS and JavaScript of the page; nothing in them comes from another host."""
