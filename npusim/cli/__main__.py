"""`python -m npusim.cli`."""

import sys

from npusim.cli.main import main

if __name__ == "__main__":  # not in the processes of `eval --jobs`
    sys.exit(main())
