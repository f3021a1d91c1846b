"""The client of TensorFlow Serving's gRPC API."""
