"""nginx's configuration text as blocks of directives: the subset that `reconciler.render` writes, and nothing else.

A directive that is not listed for its block is an error (`NotInterpreted`), so that a new line in a template forces a look at what
it means to the interpreter in `tests.fakes.nginx`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


class Refused(Exception):
    """nginx does not load this; the words are in its own manner."""


class NotInterpreted(AssertionError):
    """The text has something that this interpreter does not know. Teach it, and its contract with the real nginx, first."""


@dataclass
class Block:
    """A directive: its words, and what stands inside of its braces (empty without any)."""

    words: tuple[str, ...]
    inside: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The directive."""
        return self.words[0]

    def all(self, name: str) -> list[Block]:
        """The directives of this name directly inside."""
        return [block for block in self.inside if block.words[0] == name]

    def one(self, name: str) -> str | None:
        """The first argument of the only directive of this name directly inside; None when there is none."""
        found = self.all(name)
        if len(found) > 1:
            raise Refused(f'[emerg] "{name}" directive is duplicate')
        return found[0].words[1] if found else None


# What decides where traffic goes, by block. `tests.fakes.nginx` interprets each of these.
_MEANING = {
    "main": "events http stream worker_shutdown_timeout",
    "events": "",
    "http": "server upstream map client_header_timeout proxy_next_upstream",
    "server": "listen server_name location set",
    "location": "set error_page if rewrite proxy_pass return proxy_read_timeout",
    "if": "return",
    "upstream": "zone server",
    "map": "*",
    "stream": "server upstream proxy_next_upstream",
    "listener": "listen proxy_pass",
}
# What shapes how it goes there, or is nobody's business here.
_FORM = {
    "main": "daemon master_process worker_processes pid error_log",
    "events": "worker_connections",
    "http": """access_log server_tokens default_type client_body_temp_path proxy_temp_path fastcgi_temp_path uwsgi_temp_path
        scgi_temp_path lingering_timeout keepalive_timeout keepalive_min_timeout variables_hash_max_size
        server_names_hash_max_size server_names_hash_bucket_size log_format proxy_http_version proxy_connect_timeout
        proxy_send_timeout proxy_socket_keepalive proxy_request_buffering proxy_max_temp_file_size proxy_next_upstream_timeout
        proxy_set_header""",
    "server": "access_log keepalive_timeout",
    "location": "client_max_body_size add_header",
    "if": "",
    "upstream": "keepalive keepalive_timeout keepalive_requests",
    "map": "",
    "stream": "access_log proxy_connect_timeout proxy_timeout proxy_socket_keepalive proxy_next_upstream_timeout",
    "listener": "",
}
_KNOWN = {block: frozenset(f"{_MEANING[block]} {_FORM[block]}".split()) for block in _MEANING}
_INSIDE = {
    ("main", "events"): "events",
    ("main", "http"): "http",
    ("main", "stream"): "stream",
    ("http", "server"): "server",
    ("http", "upstream"): "upstream",
    ("http", "map"): "map",
    ("server", "location"): "location",
    ("location", "if"): "if",
    ("stream", "server"): "listener",
    ("stream", "upstream"): "upstream",
}
_TOKEN = re.compile(r"""\s+|\#[^\n]*|([;{}])|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;{}"'\#][^\s;{}]*)""", re.DOTALL)
_ESCAPE = re.compile(r"\\([\"'\\trn])")
_CONTROL = {"t": "\t", "r": "\r", "n": "\n"}


def parse(text: str) -> Block:
    """The whole text as a block called `main`. Raises Refused when nginx could not read it, NotInterpreted for what is new."""
    root = Block(("main",))
    open_blocks = [(root, "main")]
    words: list[str] = []
    for mark, word in _tokens(text):
        if word is not None:
            words.append(word)
        elif mark == "}":
            if words or len(open_blocks) == 1:
                raise Refused('[emerg] unexpected "}"')
            open_blocks.pop()
        else:
            if not words:
                raise Refused(f'[emerg] unexpected "{mark}"')
            block, kind = open_blocks[-1]
            made = Block(tuple(words))
            _known(made, kind, opens=mark == "{")
            block.inside.append(made)
            if mark == "{":
                open_blocks.append((made, _INSIDE[kind, made.name]))
            words = []
    if words or len(open_blocks) > 1:
        raise Refused('[emerg] unexpected end of file, expecting ";" or "}"')
    return root


def seconds(text: str) -> float:
    """nginx's way to write a duration, such as `60000ms`, `1h` or `75s`."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d|)", text)
    if match is None:
        raise NotInterpreted(f"{text!r} is not a duration that is known here")
    return int(match[1]) * {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match[2]]


def _known(block: Block, kind: str, *, opens: bool) -> None:
    known = _KNOWN[kind]
    if block.name not in known and "*" not in known:
        raise NotInterpreted(f"{block.name!r} in {kind!r} has no meaning in tests/fakes yet")
    if opens != ((kind, block.name) in _INSIDE):
        raise Refused(
            f'[emerg] directive "{block.name}" has no opening "{{"' if not opens else f'[emerg] "{block.name}" has a block'
        )


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Refused(f"[emerg] unexpected end of file in {text[at : at + 20]!r}")
        at = match.end()
        mark, double, single, plain = match.groups()
        if mark is not None:
            yield mark, None
        else:
            word = next((part for part in (double, single, plain) if part is not None), None)
            if word is not None:
                yield "", _ESCAPE.sub(lambda found: _CONTROL.get(found[1], found[1]), word) if "\\" in word else word
