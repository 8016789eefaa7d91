"""Videos in many containers and codecs, whose frames are told from each other."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

NUM_FRAMES = 32
HEIGHT, WIDTH = 48, 64
Frames = npt.NDArray[np.uint8]

X264 = {"preset": "ultrafast"}
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {**X264, "bf": "0", "g": "12"}),
    "h264-b": ("libx264", {**X264, "bf": "3", "g": "12"}),
    "h264-pyramid": ("libx264", {**X264, "x264-params": "b-pyramid=normal:keyint=12:bframes=5:b-adapt=0:scenecut=0"}),
    "h264-open": ("libx264", {**X264, "x264-params": "open-gop=1:keyint=12:bframes=3:scenecut=0"}),
    "h264-refresh": ("libx264", {**X264, "x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
    "hevc-b": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=3"}),
    "hevc-refresh": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:intra-refresh=1"}),
    "mpeg4": ("mpeg4", {"q": "3", "g": "12"}),
    "mpeg4-b": ("mpeg4", {"q": "3", "g": "12", "bf": "2"}),
    "mpeg2": ("mpeg2video", {"q": "3", "g": "12"}),
    "mpeg2-b": ("mpeg2video", {"q": "3", "g": "12", "bf": "2", "b_strategy": "1", "sc_threshold": "0"}),
    "mpeg1-b": ("mpeg1video", {"q": "3", "g": "12", "bf": "2"}),
    "vp8": ("libvpx", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "vp8-hidden": ("libvpx", {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "vp9": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "vp9-hidden": ("libvpx-vp9", {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "5"}),
    "wmv2": ("wmv2", {"q": "3", "g": "12"}),
    "msmpeg4": ("msmpeg4", {"q": "3", "g": "12"}),
    "flv1": ("flv", {"q": "3", "g": "12"}),
    "mjpeg": ("mjpeg", {"q": "3"}),
    "ffv1": ("ffv1", {"g": "12"}),
    "snow": ("snow", {"q": "3", "g": "12"}),
}  # fmt: skip
H264 = ["h264", "h264-b", "h264-pyramid", "h264-open", "h264-refresh"]
HEVC = ["hevc-b", "hevc-refresh"]
MPEG4 = ["mpeg4", "mpeg4-b"]
MPEG2 = ["mpeg2", "mpeg2-b", "mpeg1-b"]
VPX = ["vp8", "vp8-hidden", "vp9", "vp9-hidden"]
CONTAINERS = {
    "mp4": [*H264, *HEVC, *MPEG4, "mpeg2-b", "vp9"],
    "mov": ["h264-b", "h264-refresh", "mpeg4-b", "mjpeg"],
    "mkv": [*H264, *HEVC, *MPEG4, *MPEG2, "vp8", "msmpeg4", "mjpeg", "ffv1", "snow"],
    "webm": VPX,
    "avi": ["h264", "h264-b", "h264-refresh", *MPEG4, "mpeg2-b", "msmpeg4", "mjpeg", "ffv1"],
    "mpg": [*MPEG2, "h264-b", "mpeg4-b"],
    "vob": [*MPEG2, "h264-b"],
    "ts": [*H264, *HEVC, *MPEG4, *MPEG2],
    "m2ts": ["h264-b", "mpeg2-b"],
    "wmv": [*H264, "mpeg4-b", "mpeg2-b", "wmv2", "msmpeg4"],
    "asf": ["h264-b", "wmv2"],
    "flv": [*H264, "flv1"],
    "ogv": ["vp8"],
    "nut": ["h264-b", "mpeg4-b", "snow"],
    "mxf": ["h264-b", "mpeg2-b"],
    "3gp": ["h264-b", "mpeg4"],
    "m4v": ["mpeg4"],
    "h264": ["h264-b", "h264-refresh"],
    "m2v": ["mpeg2-b"],
}
MUXERS = {"mpg": "mpeg", "m2ts": "mpegts", "ts": "mpegts", "wmv": "asf", "ogv": "ogg", "m2v": "mpeg2video"}
SOUND = {"mp4": "aac", "mkv": "aac", "mov": "aac", "flv": "aac", "webm": "libopus"}
"""Codecs of sound by container; MP2 elsewhere."""


def picture(number: int) -> Frames:
    """A texture that moves, and that changes for good at every eighth frame."""
    random = np.random.RandomState(number // 8)
    texture = random.randint(40, 215, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    return np.roll(texture, 2 * number, axis=1).astype(np.uint8)


def decode_in_order(path: Path) -> Frames:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def write(folder: Path, container: str, codec: str, *, sound: bool = False, times_s: list[float] | None = None) -> Path:
    """A video of NUM_FRAMES pictures; `times_s`: when each is shown, else 25 a second. Sound begins at 0."""
    av.logging.set_level(av.logging.PANIC)
    path = folder / f"{codec}{'-sound' * sound}{'-timed' * bool(times_s)}.{container}"
    name, options = CODECS[codec]
    with av.open(str(path), "w", format=MUXERS.get(container)) as file:
        stream: Any = file.add_stream(name, rate=25, options=options)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if times_s:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            _write_silence(file, SOUND.get(container, "mp2"))
        for number in range(NUM_FRAMES):
            frame: Any = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            if times_s:
                frame.pts, frame.time_base = round(1000 * times_s[number]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def without_beginning(source: Path, target: Path, packets: int) -> Path:
    """A stream that was joined late: all packets of a video but the first."""
    with av.open(str(source)) as file, av.open(str(target), "w", format=MUXERS.get(target.suffix[1:])) as late:
        stream = file.streams.video[0]
        copy = late.add_stream_from_template(stream)
        for number, packet in enumerate(file.demux(stream)):
            if packet.size and number >= packets:
                packet.stream = copy
                late.mux(packet)
    return target


def _write_silence(file: Any, codec: str) -> None:
    rate = 48_000 if codec == "libopus" else 44_100
    stream = file.add_stream(codec, rate=rate, layout="mono")
    kind, size = ("s16", 1152) if codec == "mp2" else ("flt" if codec == "libopus" else "fltp", 960)
    silence = np.zeros((1, size), np.int16 if codec == "mp2" else np.float32)
    for number in range(2 * rate // size):
        part = av.AudioFrame.from_ndarray(silence, format=kind, layout="mono")
        part.sample_rate, part.pts, part.time_base = rate, number * size, Fraction(1, rate)
        file.mux(stream.encode(part))
    file.mux(stream.encode(None))
