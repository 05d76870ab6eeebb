"""What a set of samples is worth: counts and rates with their denominators stated."""
