"""Images that something else made, in the layouts of other tools, with their captions."""
