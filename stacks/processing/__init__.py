"""Processing: raw files become a validated, catalogued table."""
