"""The parts of the local model server, which `local.server` puts together. Only the standard library is imported."""
