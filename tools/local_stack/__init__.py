"""The production stack of `docker-compose.yaml`, run without containers."""
