"""From captions to token ids: vocabularies, tokenizers, word vectors."""
