"""Serverless inference: copies of the container on demand, and nothing to pay while nobody asks."""
