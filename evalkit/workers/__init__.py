"""Work in other processes: what a worker does, who hands it out, and where workers run."""
