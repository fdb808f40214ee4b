"""The rating session without a browser, its server, and screenshots of it."""
