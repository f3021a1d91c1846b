"""A black-box suite that says whether a server keeps the promises of TensorFlow Serving 2.20."""
