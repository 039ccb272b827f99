"""Training: the SageMaker Pipeline, its roles, its image, and what starts it."""
