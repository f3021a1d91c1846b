"""Models of the server: versions, loading, configuration files."""
