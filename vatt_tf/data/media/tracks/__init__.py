"""The picture and the sound of a media file: opened, placed on one clock, decoded."""
