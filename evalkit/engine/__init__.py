"""Where the work items of a run are executed."""
