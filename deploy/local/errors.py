"""What can be wrong on the machine, said in one line."""


class StackError(Exception):
    """The local stack cannot start or go on; the message is one line that ends in the remedy."""

    def __init__(self, message: str) -> None:
        """Keep the message to one line, whatever the quoted program printed.

        Args:
            message: what is wrong and what to do about it.
        """
        super().__init__(" ".join(message.split()))
