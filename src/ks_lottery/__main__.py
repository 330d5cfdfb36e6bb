"""`python -m ks_lottery` is the command `ks-lottery`."""

import sys

from ks_lottery.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
