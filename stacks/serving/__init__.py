"""Serving: a model behind an endpoint, rolled out by CloudFormation and rolled back by alarms."""
