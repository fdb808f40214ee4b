"""`shapes`: scenes, how they are drawn and described, the data set, and a detector of shapes."""
