"""From media files to batches: decoding, captions, shards, tokenizers, the input pipeline."""
