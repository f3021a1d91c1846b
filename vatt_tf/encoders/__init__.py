"""Towers: raw video, audio or text to tokens and one pooled feature.

Importing the package registers its towers; ``vatt_tf.encoders.tower`` says what one is.
"""

from vatt_tf.encoders import agnostic, audio, audio_resnet, s3d, text, tsm_resnet, video

__all__ = ["agnostic", "audio", "audio_resnet", "s3d", "text", "tsm_resnet", "video"]
