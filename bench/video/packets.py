"""What a video's packets say before its frames are decoded: how many frames, when each is shown, where to begin.

Frame i of a video is the i-th frame that a decode from its beginning shows. Packets tell the same where each has a
presentation time of its own, and the first of these is that of the first frame that can be decoded. Elsewhere all
frames are decoded once to count them: MPEG program streams, ASF, and streams that were joined between key frames.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.video.info import DecodeError, Orientation, Seconds, VideoInfo, orientation_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# By the names of FFmpeg's decoders.
_FORGETFUL = set("h264 hevc vvc mpeg1video mpeg2video mpeg4 h263 flv vp8 vp9 av1 libdav1d theora".split())  # noqa: SIM905
_FORGETFUL |= {"msmpeg4", "msmpeg4v1", "msmpeg4v2", "wmv1", "wmv2", "wmv3", "vc1"}
_IDR = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")
_SEI = re.compile(rb"\x00\x00\x01\x06")
_RECOVERY_POINT = 6
_MORE = 255


class CleanStarts:
    """Finds the clean starts among the packets of one stream: decoding from there gives the frames of a decode from the
    beginning.

    What a container flags as a key frame need not be one. An MP4 file without a list of key frames flags every frame;
    H.264 flags recovery points, from which the picture is whole only after some frames where it is refreshed bit by
    bit. So decoding begins at a flagged packet of a codec whose key frames forget all that came before; in H.264 that
    is an IDR picture, or a recovery point that its encoder declares exact from its first frame on. A decoder has the
    last word: it must take the first frame for a key frame.
    """

    def __init__(self, stream: VideoStream) -> None:
        from av.bitstream import BitStreamFilterContext

        codec = stream.codec_context.codec
        self._codec_does = codec.name in _FORGETFUL or codec.intra_only
        # Keeps of a packet, in the form with start codes, the IDR slices (5) and the supplemental information (6).
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


Integers = npt.NDArray[np.int64]

# Containers that write a presentation time beside every frame. What FFmpeg guesses elsewhere is wrong with B-frames.
_WITH_TIMES = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "mpegts", "nut")
# A container that writes them beside most frames. In all others a file says only the times of decoding.
_WITH_MANY_TIMES = "mpeg"
_AVI = "avi"
_FROM_ZERO = (*_WITH_TIMES[:2], _AVI)
NO_TIME = np.iinfo(np.int64).min
_MICROSECONDS = 1_000_000
_ROUNDING_S = 2e-3
"""What containers round the times of even frames to, at the coarsest: 1/600 s, in old QuickTime files."""
_DIGITS = 6
"""Decimals of a time in seconds: no file is finer, and annotations that name a frame's time mean that frame."""
_SAME_RATE = 0.1
"""Relative: a header's rate that is further from the frames' is a guess from the first of them."""
# decord takes the padding of a row for pixels where it is as wide as the row; it is below 64 bytes.
_DECORD_MIN_WIDTH = 64
# Elsewhere (AVI, MPEG-TS) times are guessed, and decord loses its place, on some reads of a file and not on others.
_DECORD_KEEPS_PLACE_IN = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


@dataclass(frozen=True)
class Start:
    """Where decoding may begin."""

    frame: int
    """The first frame that it gives."""
    packet: int
    decoded_at: int
    """Decoding time of the packet, in ticks."""


@dataclass(frozen=True)
class Packets:
    """The packets of a video stream, as far as seeking needs them: a few bytes each, for videos of many hours."""

    times: Integers
    """Presentation times [P] in the order of the file, in ticks."""
    sizes: npt.NDArray[np.int32]
    """Bytes [P]."""
    shown_at: Integers | None
    """Presentation times [num_frames] of the frames, rising; None where frames are known by their number alone."""
    starts: Integers
    """[S, 3] of the clean starts, rising: frame, packet, decoding time. S is 0 where frames are known by number."""
    orientation: Orientation
    decord_problem: str | None
    """Why decord would give wrong frames of this file, if it would."""

    def start_before(self, frame: int) -> Start | None:
        """The last clean start up to a frame; None where the file has to be decoded from its beginning."""
        place = int(np.searchsorted(self.starts[:, 0], frame, side="right")) - 1
        return Start(*self.starts[place].tolist()) if place >= 0 else None

    def has(self, packet: Packet[VideoStream], number: int) -> bool:
        """Whether a packet that was read after a seek is the one with this number."""
        inside = number < len(self.times)
        return inside and packet.pts == self.times[number] and packet.size == self.sizes[number]

    def number_of(self, frame: VideoFrame) -> int:
        """The number of a decoded frame by its presentation time; -1 where none is shown then."""
        if self.shown_at is None or frame.pts is None:
            return -1
        number = int(np.searchsorted(self.shown_at, frame.pts))
        return number if number < len(self.shown_at) and self.shown_at[number] == frame.pts else -1


@dataclass
class Reading:
    """What one pass over all packets finds; those whose frames are never shown count among them."""

    container: InputContainer
    stream: VideoStream
    path: str
    first: VideoFrame | None = None
    times: array[int] = field(default_factory=lambda: array("q"))
    decoded_at: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("i"))
    hidden: array[int] = field(default_factory=lambda: array("q"))
    """Numbers of the packets whose frames are never shown."""
    clean: array[int] = field(default_factory=lambda: array("q"))
    """Numbers of the clean starts."""
    num_flagged: int = 0
    """Packets that the container flags as key frames."""
    begins_flagged: bool = False

    def add(self, packet: Packet[VideoStream], clean: CleanStarts) -> None:
        """Note a packet that is not empty. Takes its content away."""
        number = len(self.sizes)
        self.times.append(NO_TIME if packet.pts is None else packet.pts)
        decoded_at = packet.pts if packet.dts is None else packet.dts  # Matroska may not tell that of its first packet
        self.decoded_at.append(NO_TIME if decoded_at is None else decoded_at)
        self.sizes.append(packet.size)
        if packet.is_discard:
            self.hidden.append(number)
        elif packet.is_keyframe:
            self.num_flagged += 1
            self.begins_flagged |= number == 0
            if packet.pts is not None and clean.has(packet):
                self.clean.append(number)

    @property
    def shown(self) -> Integers:
        """Presentation times of the packets whose frames are shown, in the order of the file."""
        return _without(self.times, self.hidden)

    @property
    def tells_frames(self) -> bool:
        """Whether the packets show which frames a decode from the beginning gives."""
        name = self.container.format.name
        if (
            name == _AVI
        ):  # its times are guessed, but each of its packets is a frame, unless it begins between key frames
            return self.begins_flagged
        if name not in _WITH_TIMES or self.first is None:
            return False
        shown_at = np.unique(self.shown)
        unique = len(shown_at) == len(self.sizes) - len(self.hidden)
        return unique and shown_at[0] != NO_TIME and self.first.pts == shown_at[0]


def read_packets(container: InputContainer, stream: VideoStream, path: str) -> Reading:
    """One pass over all packets, which decodes the first frame alone.

    Raises DecodeError for a file that is cut off, or none of whose frames can be decoded.
    """
    reading, clean = Reading(container, stream, path), CleanStarts(stream)
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise DecodeError(f"the file is cut off or damaged after frame {len(reading.sizes)}", where=path)
        if reading.first is None:
            reading.first = next(iter(leading_frames(packet)), None)  # only a decoded frame tells its orientation
        if packet.size:
            reading.add(packet, clean)
    if reading.first is None:
        begins = "" if reading.begins_flagged else ", it begins between key frames"
        raise DecodeError(f"no frame of it can be decoded{begins}", where=path)
    return reading


def leading_frames(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """The frames of a packet at the beginning of a stream: none, where what it refers to was sent before."""
    from av.error import InvalidDataError

    try:
        return packet.decode()
    except InvalidDataError:
        return []


def decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames that a decode from the beginning shows, in their order."""
    begun = False
    for packet in container.demux(stream):
        frames = packet.decode() if begun else leading_frames(packet)
        begun = begun or bool(frames)
        yield from frames


def facts_of(reading: Reading, decoded: Integers | None) -> tuple[VideoInfo, Packets]:
    """What is known of a video; `decoded`: presentation times of the frames in the order in which they are shown, where
    the packets do not tell them."""
    count = len(reading.sizes) - len(reading.hidden) if decoded is None else len(decoded)
    shown_at: Integers | None = np.unique(reading.shown) if decoded is None else decoded
    if reading.container.format.name == _AVI or _fall(shown_at):
        shown_at = None
    starts = _starts(reading, shown_at)
    orientation = orientation_of(reading.first) if reading.first else Orientation()
    problem = _decord_problem(reading, starts, orientation, told=decoded is None)
    packets = Packets(
        np.frombuffer(reading.times, dtype=np.int64),
        np.frombuffer(reading.sizes, dtype=np.int32),
        shown_at,
        starts,
        orientation,
        problem,
    )
    return _info(reading, count, shown_at, orientation), packets


def _fall(times: Integers | None) -> bool:
    """Whether times are no order of frames."""
    return times is None or not len(times) or times[0] == NO_TIME or bool(np.any(times[1:] <= times[:-1]))


def _starts(reading: Reading, shown_at: Integers | None) -> Integers:
    if shown_at is None or not reading.clean:
        return np.empty((0, 3), dtype=np.int64)
    numbers = np.frombuffer(reading.clean, dtype=np.int64)
    times = np.frombuffer(reading.times, dtype=np.int64)[numbers]
    decoded_at = np.frombuffer(reading.decoded_at, dtype=np.int64)[numbers]
    frames = np.minimum(np.searchsorted(shown_at, times), len(shown_at) - 1)
    starts: Integers = np.stack([frames, numbers, decoded_at], axis=1)[shown_at[frames] == times]
    return np.asarray(starts[np.argsort(starts[:, 0], kind="stable")])


def _decord_problem(reading: Reading, starts: Integers, orientation: Orientation, *, told: bool) -> str | None:
    name = reading.container.format.name
    if reading.first is not None and reading.first.width < _DECORD_MIN_WIDTH:
        return f"it misreads videos narrower than {_DECORD_MIN_WIDTH} pixels"
    if name not in _DECORD_KEEPS_PLACE_IN:
        return f"it misplaces frames of {name} files"
    if reading.hidden or not told:
        return "it miscounts frames without a time of their own"
    if len(starts) < reading.num_flagged:
        return "it starts at frames that are flagged as key frames and are none"
    if not np.array_equal(starts[:, 0], starts[:, 1]):
        return "it misplaces frames around key frames that later frames are shown before"
    return "it does not mirror pictures" if orientation.is_mirror else None


def _info(reading: Reading, count: int, shown_at: Integers | None, orientation: Orientation) -> VideoInfo:
    stream, first = reading.stream, reading.first
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    height, width = orientation.size(first.height, first.width) if first else (0, 0)
    ticks = shown_at
    if ticks is None or reading.container.format.name not in (*_WITH_TIMES, _WITH_MANY_TIMES):
        ticks = np.sort(_without(reading.decoded_at, reading.hidden))
    if len(ticks) != count or ticks[0] == NO_TIME or not stream.time_base:
        return VideoInfo(count, rate, height, width)
    shown_s = _seconds(reading, ticks)
    if rate and np.all(np.abs(shown_s - np.arange(count) / rate) <= _ROUNDING_S):
        return VideoInfo(count, rate, height, width)
    lasted_s = float(shown_s[-1] - shown_s[0])
    measured = (count - 1) / lasted_s if lasted_s > 0 else rate
    if abs(measured - rate) > _SAME_RATE * rate:
        rate = round(measured, 6)
    return VideoInfo(count, rate, height, width, shown_s)


def _seconds(reading: Reading, ticks: Integers) -> Seconds:
    """Seconds of a player's clock: from 0 where a format says what that is, else from the first picture or sound."""
    begin_s = 0.0
    if reading.container.format.name not in _FROM_ZERO:
        begin_s = (reading.container.start_time or 0) / _MICROSECONDS
    tick = reading.stream.time_base or Fraction(0)
    seconds: Seconds = np.round(ticks * tick.numerator / tick.denominator - begin_s, _DIGITS)
    return seconds


def _without(numbers: array[int], left_out: array[int]) -> Integers:
    values = np.frombuffer(numbers, dtype=np.int64)
    return np.delete(values, left_out) if left_out else values
