"""The two sizes of the network, as numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

PRIORS = 3
"""Prior tokens a block adds: the means of the unknown, the background's and the foreground's pixels."""


@dataclass(frozen=True, slots=True)
class Size:
    """Widths and depths of encoder and decoder."""

    embed: int
    """Channels of the first stage; each further stage has twice as many."""
    depths: tuple[int, int, int, int]
    """Blocks of the encoder's stages, at 1/4, 1/8, 1/16 and 1/32 of the image."""
    heads: tuple[int, int, int, int]
    base: int
    """Channels of the decoder at full and half size; 2, 4, 8 and 16 times as many at 1/4, 1/8, 1/16 and 1/32."""
    blocks: tuple[int, int, int, int]
    """Residual blocks of the decoder's stages, from 1/16 to 1/2 of the image."""
    window: int = 7
    """Patches along a window's side."""
    drop: float = 0.3
    """Share of images that skip the last block while training; earlier blocks linearly fewer."""

    def width(self, stage: int) -> int:
        """Channels of an encoder's stage, 0 to 3."""
        return self.embed << stage


SIZES = {
    "swin_t": Size(96, (2, 2, 6, 2), (3, 6, 12, 24), 32, (2, 3, 3, 2)),
    "small": Size(32, (2, 2, 2, 2), (1, 2, 4, 8), 16, (1, 1, 1, 1), drop=0.0),
}
"""`swin_t` is the published network; `small` learns the embedded data set's composites in minutes on a CPU."""
