"""What stands in a media file: tracks, frames, samples, captions, windows."""
