"""Which packets of a video are clean starts: decoding from there gives the frames of a decode from the beginning.

What a container flags as a key frame need not be one. An MP4 file without a list of key frames flags every frame; H.264
flags recovery points, from which the picture is whole only after some frames where it is refreshed bit by bit. So
decoding begins at a flagged packet of a codec whose key frames forget all that came before; in H.264 that is an IDR
picture, or a recovery point that its encoder declares exact from its first frame on. A decoder has the last word:
it must take the first frame for a key frame.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# By the names of FFmpeg's decoders.
_FORGETFUL = set("h264 hevc vvc mpeg1video mpeg2video mpeg4 h263 flv vp8 vp9 av1 libdav1d theora".split())  # noqa: SIM905
_FORGETFUL |= {"msmpeg4", "msmpeg4v1", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1"}
_IDR = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")
_SEI = re.compile(rb"\x00\x00\x01\x06")
_RECOVERY_POINT = 6
_MORE = 255


class CleanStarts:
    """Tells the clean starts among the packets of one stream."""

    def __init__(self, stream: VideoStream) -> None:
        from av.bitstream import BitStreamFilterContext

        codec = stream.codec_context.codec
        self._codec_does = codec.name in _FORGETFUL or codec.intra_only
        # Of a packet, in the form that has start codes: IDR slices (5) and supplemental information (6).
        chain = "h264_mp4toannexb,filter_units=pass_types=5-6"
        self._h264 = BitStreamFilterContext(chain, stream) if codec.name == "h264" else None

    def has(self, packet: Packet[VideoStream]) -> bool:
        """Whether decoding may begin at a packet. Takes its content away: call it last."""
        if not (self._codec_does and packet.is_keyframe):
            return False
        if self._h264 is None:
            return True
        content = b"".join(bytes(part) for part in self._h264.filter(packet))
        return bool(_IDR.search(content)) or any(map(_says_exact, _SEI.split(content)[1:]))


def _says_exact(message: bytes) -> bool:
    """Whether supplemental information of H.264 (annex D) declares its picture an exact recovery point at once.

    It is a row of (type, size, content), numbers from 255 on being written as that and the rest. A recovery point
    begins with the bits of: frames until the picture is whole (0 is one bit, 1); exact; broken.
    """
    place = 0
    while place + 2 < len(message):
        kind, place = _number(message, place)
        size, place = _number(message, place)
        if kind == _RECOVERY_POINT and place < len(message):
            return message[place] >> 5 == 0b110
        place += size
    return False


def _number(message: bytes, place: int) -> tuple[int, int]:
    total = 0
    while place < len(message) and message[place] == _MORE:
        total, place = total + _MORE, place + 1
    return total + (message[place] if place < len(message) else 0), place + 1
