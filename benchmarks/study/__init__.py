"""Human studies: intervals, interim looks and the vote store under load."""
