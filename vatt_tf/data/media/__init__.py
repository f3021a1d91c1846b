"""What stands in a media file: tracks, frames, samples, captions, windows."""

from vatt_tf import lazy

__getattr__ = lazy.names(
    __name__,
    ClipReader="clips",
    MediaClip="clips",
    MediaError="tracks.container",
    MediaInfo="info",
    end_of="tracks.clock",
    iter_clips="clips",
    probe="info",
    read_audio="clips",
    read_clip="clips",
)
