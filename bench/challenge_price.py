"""The price of a challenge: processor time for one solution of a proof of work.

`python -m bench.challenge_price [SOLUTIONS]` solves challenges at the default difficulty in this
process, and prints as JSON the mean and the spread of its processor time, and hashes a second.
"""

import json
import math
import statistics
import sys
import time

from gateway.challenge.proof_of_work import ProofOfWork
from gateway.settings import GatewaySettings
from seckill.client import proof_of_work

SOLUTIONS = 40


def measure(solutions: int) -> dict[str, float]:
    """Solve so many challenges."""
    max_number = int(GatewaySettings.model_fields["gateway_challenge_max_number"].default)
    work = ProofOfWork([b"k" * 32], max_number=max_number, ttl_s=60)
    taken_s = []
    for number in range(solutions):
        challenge = work.challenge(f"buyer-{number}", "phone", now_s=time.time())
        begun_s = time.process_time()
        if proof_of_work.solve(challenge) is None:
            raise RuntimeError("a challenge has no solution")
        taken_s.append(time.process_time() - begun_s)
    mean_s = statistics.fmean(taken_s)
    return {
        "solutions": solutions,
        "max_number": max_number,
        "cpu_s_mean": round(mean_s, 3),
        "cpu_s_mean_error": round(statistics.stdev(taken_s) / math.sqrt(solutions), 3),
        "cpu_s_most": round(max(taken_s), 3),
        "hashes_per_s": round(max_number / 2 / mean_s),
    }


def main() -> None:
    """Print the price."""
    solutions = int(sys.argv[1]) if len(sys.argv) > 1 else SOLUTIONS
    sys.stdout.write(json.dumps(measure(solutions)) + "\n")


if __name__ == "__main__":
    main()
