"""``python -m fulmen``: the same as the command ``fulmen``."""

import sys

from fulmen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
