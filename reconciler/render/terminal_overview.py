"""The whole cluster for a terminal: a summary, then what is not in order, then the rest for those who ask for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from reconciler.model.overview import Overview, Place, ServerGlance, ServiceGlance
from reconciler.render.terminal import Cell, Page, Table, Tone, counted
from reconciler.render.terminal_overview_notes import ago, glance_notes, whole_notes

SMALL = 20
"""So many servers and services together are shown even if all is in order."""
PLACES_LISTED = 3
PARTS: Mapping[str, tuple[str, Tone]] = {
    "member": ("member", "plain"),
    "newcomer": ("newcomer", "warn"),
    "silent newcomer": ("never reported", "warn"),
    "removed": ("not in the inventory", "dim"),
    "unknown": ("not known", "warn"),
}


def pages(found: Overview, *, everything: bool, service: str | None = None) -> tuple[Page, ...]:
    """What to show, from top to bottom. `service`: only this one, and every place of it."""
    if service is not None:
        (one,) = (glance for glance in found.services if glance.service == service)
        servers = [server for server in found.servers if server.server in {place.server for place in one.places}]
        return (Page(_title(found), _services([one]), tuple(glance_notes([one], servers))), Page(table=_places(one)))
    small = len(found.servers) + len(found.services) <= SMALL
    whole = everything or small
    servers = [server for server in found.servers if whole or not server.in_order]
    services = [glance for glance in found.services if whole or not glance.in_order]
    first = Page(_title(found), notes=tuple(whole_notes(found)), summary=_summary(found), tone="good" if found.in_order else "warn")
    shown = [first]
    if servers:
        shown.append(Page(table=_servers(servers)))
    if services:
        shown.append(Page(table=_services(services)))
    shown.append(Page(notes=tuple(glance_notes(services, servers))))
    left = len(found.servers) + len(found.services) - len(servers) - len(services)
    if left:
        what = (
            f"{counted(len(found.servers) - len(servers), 'server')} and {counted(len(found.services) - len(services), 'service')}"
        )
        shown.append(Page(summary=f"{what} in order are not shown; --all shows them.", tone="dim"))
    return tuple(page for page in shown if page != Page())


def _title(found: Overview) -> str:
    if found.generation is None or found.config is None:
        return "No decision can be read"
    subject = f' "{found.subject}"' if found.subject else ""
    decided = f"generation {found.generation}, decided by {found.decided_by}"
    return f"Config {found.config[:7]}{subject}; {decided}" + (
        f" about {ago(found.decided_seconds)} ago" if found.decided_seconds is not None else ""
    )


def _summary(found: Overview) -> str:
    return f"{_servers_in_words(found.servers)}; {_services_in_words(found.services)}."


def _servers_in_words(servers: Sequence[ServerGlance]) -> str:
    counts = [
        ("behind", sum(server.behind is not None for server in servers)),
        ("to look at", sum(bool(server.words) and server.behind is None for server in servers)),
        ("drained", sum(server.state == "drained" for server in servers)),
    ]
    told = [f"{count} {what}" for what, count in counts if count]
    fine = "all in order" if all(server.in_order for server in servers) else ""
    return f"{counted(len(servers), 'server')}: {', '.join([fine, *told] if fine else told)}" if servers else "no server is known"


def _services_in_words(services: Sequence[ServiceGlance]) -> str:
    if not services:
        return "no service"
    counts = Counter(_state(service) for service in services)
    if counts.keys() == {"settled"}:
        return f"{counted(len(services), 'service')}: all live as desired"
    order = ("settled", "rolling out", "held back", "refused", "not live", "to look at")
    return f"{counted(len(services), 'service')}: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state])


def _state(service: ServiceGlance) -> str:
    """First match wins."""
    if service.rollout is not None:
        return "rolling out"
    if service.refused is not None:
        return "refused"
    if service.held is not None:
        return "held back"
    if service.live is None:
        return "not live"
    return "to look at" if service.words else "settled"


def _servers(servers: Sequence[ServerGlance]) -> Table:
    rows = []
    for server in servers:
        part, tone = PARTS[server.part]
        if server.state == "drained":
            part, tone = ("drained", "warn") if server.part == "member" else (f"{part}, drained", tone)
        serves = Cell(f"generation {server.serves}" if server.serves is not None else "nothing", _serving_tone(server))
        spoke = f"about {ago(server.reported_seconds)} ago" if server.reported_seconds is not None else "never"
        rows.append((Cell(server.server, "strong"), Cell(server.zone or "?"), Cell(part, tone), serves, Cell(spoke), _look(server)))
    return Table(("server", "zone", "part", "serves", "last report", "is"), tuple(rows))


def _serving_tone(server: ServerGlance) -> Tone:
    return "warn" if server.behind is not None or (server.part == "member" and server.serves is None) else "plain"


def _look(server: ServerGlance) -> Cell:
    if server.behind is not None:
        return Cell(f"behind for about {ago(server.behind.seconds)}", "warn")
    if server.words:
        return Cell("see below", "warn")
    return Cell("in order", "good")


def _services(services: Sequence[ServiceGlance]) -> Table:
    rows = []
    for service in services:
        live = Cell(service.live[:7] if service.live else "nothing", "plain" if service.live else "warn")
        rows.append(
            (Cell(service.service, "strong"), live, Cell(_since(service)), Cell(where(service.places, service.live)), _is(service))
        )
    return Table(("service", "live", "since", "on", "is"), tuple(rows))


def _since(service: ServiceGlance) -> str:
    if service.since is None:
        return "unknown" if service.live else "-"
    return ("over " if service.since.at_least else "about ") + ago(service.since_seconds)


def where(places: Sequence[Place], live: str | None) -> str:
    """Where the traffic goes: each instance, or, where there are many, how many servers in each zone.

    live: the service's revision; what runs another one is told with it.
    """
    found = [place for place in places if place.role == "live"]
    others: dict[str, list[Place]] = {}
    for place in found:
        others.setdefault("" if place.revision == live else f" {(place.revision or 'unknown')[:7]}", []).append(place)
    return ", ".join(_together(group) + version for version, group in sorted(others.items())) or "nowhere"


def _together(places: Sequence[Place]) -> str:
    if len(places) <= PLACES_LISTED:
        return ", ".join(f"{p.server} {p.slot}" + (f" ({p.replica})" if p.replica > 1 else "") for p in places)
    zones: dict[str, set[str]] = {}
    for place in places:
        zones.setdefault(place.zone or "?", set()).add(place.server)
    servers = counted(len({place.server for place in places}), "server")
    if len(zones) == 1:
        return f"{servers} of {next(iter(zones))}"
    return f"{servers} ({', '.join(f'{zone} {len(names)}' for zone, names in sorted(zones.items()))})"


def _is(service: ServiceGlance) -> Cell:
    state = _state(service)
    if service.rollout is not None:
        return Cell(f"{service.rollout.phase} {service.rollout.revision[:7]}", "warn")
    if service.refused is not None:
        return Cell(f"{service.refused.revision[:7]} refused", "bad")
    if state == "settled":
        return Cell(service.subject or "settled", "dim")
    return Cell(state, "warn")


def _places(service: ServiceGlance) -> Table:
    """Every instance of one service and what its server says."""
    rows = []
    for place in service.places:
        replica = f" ({place.replica})" if place.replica > 1 else ""
        role = Cell(place.role, "plain" if place.role == "live" else "dim")
        says = Cell(place.phase or "nothing", "plain" if place.phase in (place.role, "ready") else "warn")
        version = Cell((place.revision or "unknown")[:7])
        rows.append((Cell(place.server, "strong"), Cell(place.zone or "?"), Cell(f"{place.slot}{replica}"), version, role, says))
    return Table(("server", "zone", "slot", "version", "is", "its server says"), tuple(rows))
