"""What is done to values: cleaned, normalised, augmented."""
