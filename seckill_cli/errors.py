"""How a command fails."""


class CommandFailed(Exception):
    """The command cannot do it: one line for the user, exit status 1."""
