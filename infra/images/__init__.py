"""Building and pushing the image of a function."""
