"""A searchable index of clips: models to embed with, the folder on disk, exact and FAISS search."""
