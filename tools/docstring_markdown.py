"""Turns the Sphinx marks of docstrings into Markdown for the documentation site (`mkdocs.yml`)."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
LITERAL_BLOCK = re.compile(r"::$", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Returns a docstring with roles as code, and with one colon in front of a block of code."""
    return LITERAL_BLOCK.sub(":", ROLE.sub(r"`\1`", text))


class DocstringMarkdown(griffe.Extension):
    """Griffe's hook: every docstring that the API pages show passes through."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
