"""Which text-to-image model is better, by how much, and how sure are we?"""

__version__ = "0.1.0"
