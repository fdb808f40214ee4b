"""A gate: does a candidate stay within its margins of a baseline, with a stated risk."""
