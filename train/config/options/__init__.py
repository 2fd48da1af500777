"""Values by their dotted path, and as the command line writes them."""
