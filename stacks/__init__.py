"""The CDK stacks: one folder a phase of the machine-learning lifecycle, each construct file one idea."""
