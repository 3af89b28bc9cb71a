"""`pytest -p tests.faults.sabotage.plugin`: plants the bug of SECKILL_TEST_SABOTAGE.

Loaded before any conftest, so that stages which tests run in their own process have it too.
"""

from tests.faults.sabotage.edits import install
from tests.faults.sabotage.registry import chosen, find

if chosen():
    install(find(chosen()))
