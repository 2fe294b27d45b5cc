"""Text of other people inside Markdown and mermaid: it may say anything and do nothing."""

from __future__ import annotations

import re

from reconciler.render.messages import printable

_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|#@$~{}!]|:(?=//|[a-z0-9_+-]+:)|\b(?<=www)\.", re.IGNORECASE)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9._/@:+-]+")
_MERMAID = re.compile(r"[^A-Za-z0-9 ._/:,()+=-]")
_ARROW = "->"


def markdown(text: str) -> str:
    """One line for a table's cell or a paragraph: no markup, no link, no mention, no emoji, no HTML, no end of the cell.

    Characters with a meaning become numeric entities, which CommonMark never takes for markup. `->` stays readable.
    """
    return _ARROW.join(_MARKDOWN.sub(_entity, part) for part in printable(text).split(_ARROW))


def code(text: str) -> str:
    """A name or a commit in code; as `markdown` where it holds what no name holds."""
    return f"`{text}`" if _PLAIN_CODE.fullmatch(text) else markdown(text)


def label(*lines: str) -> str:
    """A quoted mermaid label of these lines. Everything but harmless characters becomes mermaid's `#code;`."""
    return '"' + "<br/>".join(_MERMAID.sub(_mermaid_entity, printable(line)) for line in lines) + '"'


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def _mermaid_entity(match: re.Match[str]) -> str:
    return f"#{ord(match[0])};"
