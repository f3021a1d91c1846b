"""The client of TensorFlow Serving's gRPC API."""

from vatt_tf import lazy

__getattr__ = lazy.names(
    __name__,
    AsyncClient="client",
    Client="client",
    DEFAULT_TARGET="client",
    RequestError="calls",
    Classification="calls",
)
