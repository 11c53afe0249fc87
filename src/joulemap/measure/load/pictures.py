"""Synthetic images and videos in chat requests, as data URLs; each request's are its own."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from joulemap.errors import UsageError

PATCH_PX = 16
"""Side of the squares of one colour: fine enough to differ everywhere, coarse enough to compress."""


class VideoForm(StrEnum):
    """How a video travels."""

    FRAMES = "frames"
    """As that many images: every server with vision understands it, but sees no video."""
    VIDEO_URL = "video_url"
    """As one ``video_url`` of comma-separated frames, as vLLM takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The pictures of one request."""

    width_px: int = 512
    height_px: int = 512
    images: int = 1
    """Images in each request."""
    video_frames: int = 0
    """Frames of the one video in each request; 0 for none."""
    video_form: VideoForm = VideoForm.VIDEO_URL

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 1 or min(self.images, self.video_frames) < 0:
            msg = f"no pictures are {self.width_px}×{self.height_px} px, {self.images} + {self.video_frames}"
            raise UsageError(msg)

    def parts(self, random: Random) -> list[object]:
        """Return the parts of a chat message that hold the pictures."""
        parts: list[object] = [_image_part(self._png(random)) for _ in range(self.images)]
        frames = [self._png(random) for _ in range(self.video_frames)]
        if frames and self.video_form is VideoForm.VIDEO_URL:
            # The server reads each frame by its own content; the type only says that frames follow.
            joined = ",".join(base64.b64encode(frame).decode() for frame in frames)
            parts.append({"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{joined}"}})
        else:
            parts += [_image_part(frame) for frame in frames]
        return parts

    def _png(self, random: Random) -> bytes:
        return random_png(self.width_px, self.height_px, seed=random.getrandbits(63))


def _image_part(png: bytes) -> dict[str, object]:
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def random_png(width_px: int, height_px: int, *, seed: int) -> bytes:
    """Return a PNG of random coloured squares, 8-bit RGB (ISO/IEC 15948)."""
    random, columns, lines = Random(seed), -(-width_px // PATCH_PX), []
    for top_px in range(0, height_px, PATCH_PX):
        colours = random.randbytes(3 * columns)
        squares = b"".join(colours[at : at + 3] * PATCH_PX for at in range(0, 3 * columns, 3))
        line = b"\0" + squares[: 3 * width_px]  # a filter byte (0: none) leads each line
        lines.append(line * min(PATCH_PX, height_px - top_px))
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    blocks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in blocks
    )
