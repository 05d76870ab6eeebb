"""Short scripts that show the library, each run by its path, and the package of benchmarks."""
