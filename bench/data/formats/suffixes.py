"""How the names of video and image files end. Lists may name files of any suffix; folders are searched for these."""

from __future__ import annotations

from bench.video.image_frames import IMAGE_SUFFIXES

USUAL_VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
"""Of the files that official datasets are made of."""
VIDEO_SUFFIXES = (
    *USUAL_VIDEO_SUFFIXES,
    ".3g2",
    ".3gp",
    ".asf",
    ".divx",
    ".f4v",
    ".flv",
    ".gif",
    ".m2ts",
    ".m2v",
    ".mjpeg",
    ".mjpg",
    ".mts",
    ".mxf",
    ".ogg",
    ".ogv",
    ".ts",
    ".vob",
    ".wmv",
)
"""Of the files that count as videos in a folder, upper case or lower case."""
MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES
