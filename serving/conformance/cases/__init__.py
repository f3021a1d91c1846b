"""Cases of the conformance suite."""
