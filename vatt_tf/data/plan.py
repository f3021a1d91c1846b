"""The settings of a preparation, where users import them; see ``vatt_tf.data.prepare.plan``."""

from vatt_tf.data.prepare.plan import Settings

__all__ = ["Settings"]
