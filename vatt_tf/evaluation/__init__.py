"""Evaluation: metrics, embeddings of a data set, retrieval, zero-shot classes, the run report."""
