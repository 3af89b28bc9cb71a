"""The event loop of what makes load: uvloop where it is installed, as the wheel needs none."""

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]

__all__ = ["run"]
