"""What became of dead letters and deliveries that an operator wanted settled."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Id = TypeVar("Id")


@dataclass
class SettleResult(Generic[Id]):
    """The result of settling several things at once.

    Attributes:
        settled: how many were settled.
        refused: why others were not, by id.
    """

    settled: int = 0
    refused: dict[Id, str] = field(default_factory=dict)
