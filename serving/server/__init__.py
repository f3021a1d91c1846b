"""A server of exports in one process, for tests and small machines."""
