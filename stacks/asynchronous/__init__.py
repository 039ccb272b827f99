"""Asynchronous inference: requests wait in a queue, bodies lie in S3, and idle means no instance."""
