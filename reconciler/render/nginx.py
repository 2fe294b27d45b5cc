"""`NginxConfig` to nginx's text, the same bytes for the same value (DESIGN section 4, rules 1 to 4 and 7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from reconciler.errors import Stalled
from reconciler.model.routes import NginxConfig
from reconciler.render.parsed import check
from reconciler.render.wiring import wire
from reconciler.render.words import WORD


@dataclass(frozen=True)
class Rendered:
    """The text of a configuration file, and the fingerprint that its generation endpoint answers once it is loaded."""

    text: str
    fingerprint: str


@lru_cache(maxsize=1024)  # every pass asks again for what has not changed
def render(config: NginxConfig) -> Rendered:
    """Write the configuration of one nginx.

    The fingerprint is the first 16 hex digits of the SHA-256 of the text with an empty fingerprint in it. Raises Stalled, naming
    the field, when a value is outside its grammar, and when the text read back is not what was meant.
    """
    template = _ENVIRONMENT.get_template("nginx.conf.j2")
    wired = wire(config)
    blank = template.render(config=wired, fingerprint="")
    fingerprint = hashlib.sha256(blank.encode()).hexdigest()[:16]
    text = template.render(config=wired, fingerprint=fingerprint)
    check(config, text, fingerprint)
    return Rendered(text=text, fingerprint=fingerprint)


def _word(value: str | int) -> str:
    """The quoting filter: only what needs no quoting anywhere in nginx's grammar passes."""
    text = str(value)
    if text and not WORD.fullmatch(text):
        raise Stalled(f"nginx configuration: {text!r} has characters that are not written into nginx", reason="UnsafeValue")
    return text


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reconciler.render", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # not HTML; `word` lets nothing through that means something to nginx
        keep_trailing_newline=True,
    )
    environment.filters["word"] = _word
    environment.filters["milliseconds"] = _milliseconds
    return environment


_ENVIRONMENT = _environment()
