"""The embedded sample study: two made-up painters, drawn by this program when they are needed."""
