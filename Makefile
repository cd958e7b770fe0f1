PYTHON ?= python3
.PHONY: check
check:
	.venv/bin/ruff check .
