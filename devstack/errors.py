"""What can be wrong on the machine, one line for each problem."""


class StackError(Exception):
    """The local stack cannot start or go on; each line of the message ends in the remedy."""

    def __init__(self, *problems: str) -> None:
        """Keep each problem to one line, whatever the quoted program printed.

        Args:
            problems: what is wrong and what to do about it.
        """
        self.problems = tuple(" ".join(problem.split()) for problem in problems)
        super().__init__("\n".join(self.problems))
