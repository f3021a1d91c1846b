"""How spread out embeddings are: two numbers that show a collapse before any evaluation does."""

from __future__ import annotations

from typing import Any

from keras import ops


def embedding_health(embeddings: Any, mask: Any) -> tuple[Any, Any]:
    """Mean pairwise cosine and effective rank of a batch of embeddings.

    Embeddings are L2-normalised first. The effective rank is the participation ratio of the
    covariance's eigenvalues, ``(sum l)^2 / sum l^2``: the number of directions that the embeddings
    use, 0 if all are equal, at most one less than their number. No decomposition is needed for it.

    Args:
        embeddings: float32 ``[..., d]``.
        mask: ``[...]``, 0 for rows that do not count.

    Returns:
        Two float32 scalars; the cosine of fewer than two rows is 0.
    """
    width = embeddings.shape[-1]
    mask = ops.cast(ops.reshape(mask, (-1, 1)) > 0, "float32")
    rows = ops.reshape(ops.cast(embeddings, "float32"), (-1, width))
    rows = ops.normalize(rows, axis=-1) * mask
    count = ops.sum(mask)
    total = ops.sum(rows, axis=0)
    cosine = (ops.sum(total * total) - count) / ops.maximum(count * (count - 1.0), 1.0)
    centred = (rows - total / ops.maximum(count, 1.0)) * mask
    # The two products have the same eigenvalues; the smaller one is made.
    many = rows.shape[0] is None or rows.shape[0] > width
    transposed = ops.transpose(centred)
    gram = ops.matmul(transposed, centred) if many else ops.matmul(centred, transposed)
    trace = ops.sum(centred * centred)
    rank = trace * trace / ops.maximum(ops.sum(gram * gram), 1e-12)
    # Rounding leaves a trace of about 1e-7 a row where all embeddings are equal.
    spread = trace > 1e-6 * ops.maximum(count, 1.0)
    enough = ops.cast(count > 1.0, "float32")
    return cosine * enough, rank * enough * ops.cast(spread, "float32")
