"""Monitoring: who is told what, when something fails, slows down or costs too much."""
