"""Foundation: everything that holds state or outlives a deployment."""
