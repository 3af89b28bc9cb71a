"""What the names of everything in Redis begin with, so that meshes can share one.

A process is of one mesh: the prefix is chosen once, before Redis is opened.
"""

DEFAULT = "seckill"
# Up to the first colon of each key; inside the braces of those that share a slot.
prefix = DEFAULT


def choose_prefix(chosen: str) -> None:
    """Have all names begin with this from now on."""
    global prefix  # noqa: PLW0603 - one for the process, like its log
    prefix = chosen
