"""Black-box conformance suite of TensorFlow Serving 2.20."""
