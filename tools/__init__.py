"""Commands a person types through `make`: cost, diagram, replay, verification, teardown."""
