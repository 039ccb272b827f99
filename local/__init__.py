"""Runs on a laptop what AWS runs: the definition, the model server, the demo."""
