"""Sources that make their examples: each a function of its seeds alone."""
