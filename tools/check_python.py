"""Say in one line that this Python is too old, before anything is installed with it."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - it may run on an older one
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"Python 3.11 or newer is needed, this is {found}: make PYTHON=/path/to/python3.11")
