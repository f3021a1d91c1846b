"""Tables that people write: manifests and the columns they may have."""
