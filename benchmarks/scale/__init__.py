"""How far the work spreads."""
