"""The pairwise human study: prompt suites, assignment, votes and their statistics."""
