"""Experiment: two models behind one endpoint, compared on the same traffic."""
