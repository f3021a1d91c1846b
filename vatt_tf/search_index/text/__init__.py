"""Words in captions, transcripts and file names: SQLite FTS5."""
