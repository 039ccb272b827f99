"""Batch transform: a file of records in, a file of predictions out, by the clock."""
