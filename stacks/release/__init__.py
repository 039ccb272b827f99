"""Release: from an approval to the model in service, and the check that it arrived."""
