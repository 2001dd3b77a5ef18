"""How large and how long a run is to be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """``scale`` makes everything smaller, for a quick look: then the goals say little."""

    scale: float = 1.0
    wanted_rounds: int | None = None

    def scaled(self, count: int) -> int:
        return max(int(count * self.scale), 1)

    def rounds(self, usual: int) -> int:
        return self.wanted_rounds or usual
