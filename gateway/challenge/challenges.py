"""Asks a caller for a solution, and lets each count once."""

from gateway.challenge.port import FIELD, SOLUTION_CHARS_MAX, Challenger, SolutionRefused
from gateway.challenge.spent import SpentSolutions
from gateway.metrics import CHALLENGES_TOTAL
from seckill.errors import ChallengeRequired, InvalidField


class Challenges:
    """Of one kind, and the solutions that were used."""

    def __init__(self, challenger: Challenger, spent: SpentSolutions) -> None:
        self._challenger = challenger
        self._spent = spent

    async def require_solution(
        self, solution: str, *, user_id: str, sku: str, address: str, now_s: float
    ) -> None:
        """Return if this is the solution of a challenge that was set for this user and sale.

        Args:
            solution: as the caller sent it; empty if they did not.
            address: the caller's, as Admission.address names it; may be empty.
            now_s: Unix time.

        Raises:
            ChallengeRequired: it is not; the error has a new challenge.
            InvalidField: it is malformed.
            DependencyUnavailable, Overloaded: it cannot be checked now.
        """
        problem = ""
        if len(solution) > SOLUTION_CHARS_MAX:
            raise InvalidField([(FIELD, f"has more than {SOLUTION_CHARS_MAX} characters")])
        if solution:
            try:
                solved = await self._challenger.check(
                    solution, user_id=user_id, sku=sku, address=address, now_s=now_s
                )
            except SolutionRefused as refused:
                problem = refused.problem
            else:
                if await self._spent.spend(solved.name, expire_s=solved.expire_s, now_s=now_s):
                    CHALLENGES_TOTAL.labels("solved").inc()
                    return
                problem = "spent"
        CHALLENGES_TOTAL.labels(problem or "set").inc()
        challenge = self._challenger.challenge(user_id, sku, now_s=now_s)
        raise ChallengeRequired(challenge, sku=sku, problem=problem)
