"""The command `ks-lottery`, also as `python -m ks_lottery`."""

import sys

from ks_lottery.cli.program import program as main

if __name__ == "__main__":
    sys.exit(main())
