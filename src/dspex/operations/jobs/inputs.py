"""The inputs of actions on jobs."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRef:
    """One job by its id."""

    id: UUID
