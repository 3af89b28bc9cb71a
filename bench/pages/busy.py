"""Takes a part of a core, and does nothing else: `python -m bench.pages.busy SHARE`.

It runs until it is killed; SHARE is from 0 to 1.
"""

import sys
import time

# As long as a burst of a browser's work, about: one that loads a page.
TURN_S = 0.02


def work(share: float) -> None:
    """Use `share` of each turn."""
    while True:
        end_s = time.monotonic() + TURN_S
        used_s = time.process_time() + TURN_S * share
        while time.process_time() < used_s:
            pass
        time.sleep(max(0.0, end_s - time.monotonic()))


if __name__ == "__main__":
    work(float(sys.argv[1]))
