"""A server of exports in one process, for tests and small machines."""

from vatt_tf import lazy

__getattr__ = lazy.names(__name__, start_server="embedded", Server="embedded")
