"""Chooses the common space in which an index and a query are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vatt_tf.errors import NO_TEXT_TOWER, UserError

if TYPE_CHECKING:
    from vatt_tf.search_index.folder import IndexFolder


def choose_space(index: IndexFolder, modality: str, texts: bool) -> str:
    """Returns the space of the index that holds the modality of the query.

    Args:
        index: The index.
        modality: Of the query.
        texts: Whether the index can be searched by words as well.

    Raises:
        UserError: If there is none.
    """
    from vatt_tf.search_index.folder import spaces_in_words

    for space, facts in index.spaces.items():
        if modality in facts["partners"]:
            return space
    if modality == "video":
        # Video to video: the space shared with audio is the fine one (MMV, section 3.2); in the one
        # shared with text, videos with similar narration lie close together.
        shared = (space for space, facts in index.spaces.items() if "audio" in facts["partners"])
        return next(shared, next(iter(index.spaces)))
    other = "; --words_only searches captions and file names" if texts else ""
    if modality == "text":
        raise UserError(
            f"{index.path}: cannot be searched by words: {NO_TEXT_TOWER}. Search it by example "
            f"(--video=FILE) or by sound (--audio=FILE){other}"
        )
    raise UserError(
        f"{index.path}: cannot be searched by {modality}: its model has no space that the clips "
        f"share with {modality}; its spaces: {spaces_in_words(index.spaces)}{other}"
    )
