"""The Lambda functions: one file each, a thin handler around one pure decision."""
