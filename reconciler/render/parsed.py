"""The rendered text read back: it must hold exactly the intended directives (DESIGN section 4, rule 7; FAULTS 51).

What is intended is worked out here without the templates, so that a mistake or an injection there shows. crossplane cuts the text
into words the way nginx does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import crossplane.errors
import crossplane.lexer

from reconciler.errors import Stalled
from reconciler.model.routes import NginxConfig
from reconciler.render.wiring import Group, Place, Server, Wired, wire

Path = tuple[str, ...]  # the enclosing blocks, outermost first, each as its words joined by a space
Directive = tuple[Path, str]  # a directive as its words joined by a space, and where it stands

# Directives that decide where traffic goes; each one must be intended. `map` counts with its lines.
_ROUTING_WORDS = """
    http stream events server listen server_name location if include upstream zone proxy_pass rewrite return error_page map set
"""
ROUTING = frozenset(_ROUTING_WORDS.split())
# Directives that shape how it goes there. Anything else is refused.
_SETTING_WORDS = """
    daemon master_process worker_processes worker_connections pid error_log access_log log_format worker_shutdown_timeout
    server_tokens default_type client_body_temp_path proxy_temp_path fastcgi_temp_path uwsgi_temp_path scgi_temp_path
    client_header_timeout client_max_body_size lingering_timeout keepalive keepalive_timeout keepalive_min_timeout
    keepalive_requests variables_hash_max_size server_names_hash_max_size server_names_hash_bucket_size proxy_http_version
    proxy_connect_timeout proxy_send_timeout proxy_read_timeout proxy_timeout proxy_socket_keepalive proxy_request_buffering
    proxy_max_temp_file_size proxy_next_upstream proxy_next_upstream_timeout proxy_set_header add_header
"""
SETTINGS = frozenset(_SETTING_WORDS.split())
_FIXED_MAPS = {
    "$http_upgrade $websocket": ("default ", "~*^websocket$ websocket"),
    "$websocket $upstream_connection": ("default upgrade", " "),
    "$http_host $forwarded_host": ("default $http_host", " $host"),
    "$http_x_forwarded_proto $forwarded_proto": ("default $scheme", "http http", "https https"),
    "$http_x_request_id $request_identity": ("default $request_id", "~^[A-Za-z0-9._-]+$ $http_x_request_id"),
}


def check(config: NginxConfig, text: str, fingerprint: str) -> None:
    """Compare the text with what the configuration means. Raises Stalled naming the first differences."""
    found: Counter[Directive] = Counter()
    for path, words in directives(config.name, text):
        inside_map = bool(path) and path[-1].startswith("map ")
        if words[0] in ROUTING or inside_map:
            found[path, " ".join(words)] += 1
        elif words[0] not in SETTINGS:
            raise _differs(config.name, f"it has the directive {words[0]!r}, which is never rendered")
    intended = Counter(_intended(wire(config), fingerprint))
    for (path, directive), _ in (found - intended).items():
        raise _differs(config.name, f"{' > '.join([*path, directive])!r} was not asked for")
    for (path, directive), _ in (intended - found).items():
        raise _differs(config.name, f"{' > '.join([*path, directive])!r} is missing")


def _differs(name: str, what: str) -> Stalled:
    return Stalled(f"nginx configuration of {name}: the rendered text is not what was meant: {what}", reason="UnsafeValue")


def directives(name: str, text: str) -> Iterator[tuple[Path, list[str]]]:
    """Every directive with the blocks it stands in; a block's opener counts as a directive outside of it."""
    path: list[str] = []
    words: list[str] = []
    try:
        # The lexer's public function opens a file by name; the one below it takes the lines, which keeps this layer pure.
        tokens = list(crossplane.lexer._balance_braces(crossplane.lexer._lex_file_object(text.splitlines(keepends=True)), name))
    except crossplane.errors.NgxParserBaseException as error:
        raise _differs(name, str(error)) from error
    for token, _, quoted in tokens:
        if quoted or token not in ("{", "}", ";"):
            if quoted or words or not token.startswith("#"):
                words.append(token)
        elif token == "}":
            if words:
                raise _differs(name, f"{' '.join(words)!r} has no end")
            path.pop()
        else:
            if not words:
                raise _differs(name, f"a {token!r} stands alone")
            yield tuple(path), words
            if token == "{":
                path.append(" ".join(words))
            words = []
    if words:
        raise _differs(name, f"{' '.join(words)!r} has no end")


def _intended(wired: Wired, fingerprint: str) -> Iterator[Directive]:
    yield (), "events"
    yield (), "http"
    yield ("http",), "server"
    generation = ("http", "server")
    yield generation, f"listen 127.0.0.1:{wired.generation_port}"
    yield generation, "server_name _"
    yield generation, "location /"
    yield (*generation, "location /"), f"return 200 {fingerprint}"
    if wired.servers:
        yield from _intended_maps(wired)
    for group in wired.http_upstreams if wired.servers else ():
        yield from _intended_upstream("http", group)
    for server in wired.servers:
        yield from _intended_server(wired, server)
    if wired.listeners:
        yield (), "stream"
    for group in wired.stream_upstreams:
        yield from _intended_upstream("stream", group)
    for listener in wired.listeners:
        yield ("stream",), "server"
        yield ("stream", "server"), f"listen 127.0.0.1:{listener.port}"
        yield ("stream", "server"), f"proxy_pass {listener.upstream}"


def _intended_maps(wired: Wired) -> Iterator[Directive]:
    maps = dict(_FIXED_MAPS)
    for rewrite in wired.rewrites:
        maps[f"$request_uri ${rewrite.variable}"] = ("default ", f"{rewrite.raw_pattern} {rewrite.raw_replacement}")
    for words, lines in maps.items():
        yield ("http",), f"map {words}"
        for line in lines:
            yield ("http", f"map {words}"), line


def _intended_upstream(context: str, group: Group) -> Iterator[Directive]:
    yield (context,), f"upstream {group.name}"
    inside = (context, f"upstream {group.name}")
    yield inside, f"zone {group.zone} {group.zone_size}"
    for peer in group.peers:
        weight = f" weight={peer.weight}" if peer.weight != 1 else ""
        yield inside, f"server {peer.address}{weight} max_fails=0{' backup' if peer.backup else ''}"


def _intended_server(wired: Wired, server: Server) -> Iterator[Directive]:
    yield ("http",), "server"
    inside = ("http", "server")
    for port in wired.http_ports:
        yield inside, f"listen {port}{' default_server' if server.default else ''}"
    yield inside, f"server_name {server.host}"
    yield inside, "set $service -"
    for place in server.routes:
        for location in place.locations:
            yield from _intended_location(inside, location, place, upgraded=False)
        if place.upstream:
            yield from _intended_location(inside, f"@{place.websocket}", place, upgraded=True)
    if not server.root:
        yield inside, "location /"
        yield (*inside, "location /"), "return 404 nothing is served here\\n"


def _intended_location(server: Path, location: str, place: Place, *, upgraded: bool) -> Iterator[Directive]:
    yield server, f"location {location}"
    inside = (*server, f"location {location}")
    yield inside, f"set $service {place.service}"
    if place.upstream is None:
        yield inside, f"return 503 {place.service} has no live backend\\n"
        return
    if not upgraded:
        yield inside, f"error_page 418 = @{place.websocket}"
        yield inside, "if ($websocket)"
        yield (*inside, "if ($websocket)"), "return 418"
    if place.rewrite is None:
        yield inside, f"proxy_pass http://{place.upstream}"
    else:
        yield inside, f"rewrite {place.rewrite.pattern} {place.rewrite.replacement} break"
        yield inside, f"proxy_pass http://{place.upstream}${place.rewrite.variable}"
