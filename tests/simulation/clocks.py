"""A member's wall clock against the world's time: offset, drift, jumps both ways, standing still."""

EPOCH_MS = 1_700_000_000_000
"""What every true clock shows when the world begins."""


class SkewedClock:
    """One member's clock; `now_ms` is what its processes are told."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms
        self.drift_ppm = 0
        self._drift_from = 0
        self._frozen_at: int | None = None

    def now_ms(self, world_ms: int) -> int:
        """Return the wall clock at virtual time `world_ms`."""
        if self._frozen_at is not None:
            return self._frozen_at
        drifted = (world_ms - self._drift_from) * self.drift_ppm // 1_000_000
        return EPOCH_MS + world_ms + self.offset_ms + drifted

    def jump(self, ms: int) -> None:
        """Move by `ms`, either way."""
        self.offset_ms += ms
        if self._frozen_at is not None:
            self._frozen_at += ms

    def drift(self, world_ms: int, ppm: int) -> None:
        """Run faster or slower from now on."""
        self.offset_ms += (world_ms - self._drift_from) * self.drift_ppm // 1_000_000
        self._drift_from, self.drift_ppm = world_ms, ppm

    def freeze(self, world_ms: int) -> None:
        """Stand still."""
        self._frozen_at = self.now_ms(world_ms)

    def thaw(self, world_ms: int) -> None:
        """Go on from where it stands."""
        if self._frozen_at is not None:
            stood, self._frozen_at = self._frozen_at, None
            self.offset_ms += stood - self.now_ms(world_ms)

    def mend(self, world_ms: int) -> None:
        """Show the true time again."""
        self._frozen_at, self.offset_ms, self.drift_ppm, self._drift_from = None, 0, 0, world_ms
