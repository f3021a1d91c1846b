"""What the header of a media file says of it, without TensorFlow (a client may use this)."""

from __future__ import annotations

import dataclasses
import os

from vatt_tf.data.media.tracks.container import open_container, pick_stream
from vatt_tf.data.media.tracks.video import VideoTrack, display_size, is_on_its_side, turns_of


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """Facts of a media file as its header tells them.

    Attributes:
        duration: Seconds (0.0 when the header does not say).
        frame_rate: Mean frames per second, 0.0 without video.
        width: Pixels as shown: square pixels, after rotation.
        height: Pixels as shown.
        rotation: Degrees counter-clockwise that the stored frames are turned for display.
        has_video: Whether there is a video stream (a cover picture is none).
        has_audio: Whether there is an audio stream.
        sample_rate: Samples per second of the audio stream, 0 without.
        channels: Audio channels, 0 without.
    """

    duration: float
    frame_rate: float
    width: int
    height: int
    rotation: int
    has_video: bool
    has_audio: bool
    sample_rate: int
    channels: int


def probe(path: str | os.PathLike) -> MediaInfo:
    """Reads the facts of a media file (the first frame is decoded for the rotation).

    Raises:
        MediaError: The file is missing, empty or not a media file.
    """
    with open_container(path) as container:
        video, audio = pick_stream(container, "video"), pick_stream(container, "audio")
        width = height = rotation = 0
        rate = 0.0
        if video is not None:
            width, height = display_size(video.width, video.height, video)
            rate = float(video.average_rate or video.guessed_rate or 0)
        info = MediaInfo(
            duration=(container.duration or 0) / 1_000_000,
            frame_rate=rate,
            width=width,
            height=height,
            rotation=rotation,
            has_video=video is not None,
            has_audio=audio is not None,
            sample_rate=audio.sample_rate or 0 if audio is not None else 0,
            channels=audio.channels or 0 if audio is not None else 0,
        )
    if video is None:
        return info
    track = VideoTrack(path)
    try:
        decoded = next(track._decoded(), None)
        turns = () if decoded is None else turns_of(decoded)
        rotation = 0 if decoded is None else decoded.rotation % 360
    finally:
        track.close()
    if is_on_its_side(turns):
        width, height = height, width
    return dataclasses.replace(info, width=width, height=height, rotation=rotation)
