"""How many requests each method gets.

By default few enough for every run of the tests, and the same ones each time;
`SECKILL_PROPERTY_EXAMPLES` is another number, of requests that differ from run to run.
"""

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("SECKILL_PROPERTY_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 20,
    derandomize=not EXAMPLES,
    # To find the smallest request takes hundreds of calls.
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
