"""`shapes`: scenes, their drawing and captions, the data set, and the shape detector."""
