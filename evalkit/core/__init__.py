"""The base of all packages: it imports no other package of ours, and no torch."""
