"""``python -m graphinv.cli``."""

import sys

from graphinv.cli import main

if __name__ == "__main__":
    sys.exit(main())
