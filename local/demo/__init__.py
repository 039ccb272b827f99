"""`make demo`: the whole path on real flights, from the templates to predictions over HTTP, on one machine."""
