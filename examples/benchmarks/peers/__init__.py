"""What graphinv is compared with, behind the calls that are timed: the official code, and plain formulas."""
