"""The ground that every package stands on: it imports nothing else of ours, and no torch."""
