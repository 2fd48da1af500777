"""What quantizers are made of: books of codes, the search in one, losses, health."""
