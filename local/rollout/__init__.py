"""Three deployments under a constant load, played in the embedded cloud and drawn: `make rollout`."""
