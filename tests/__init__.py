"""The tests, one folder for each of the package; one imports another as ``tests.<folder>.<module>``."""
