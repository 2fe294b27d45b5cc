"""The page on status/cluster: the same decision gives the same bytes, and nothing that people wrote can do anything in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.model.cluster import ClusterState
from reconciler.model.desired import Revision, Rolling, ServerEntry
from reconciler.render.escaping import label, markdown
from reconciler.render.messages import printable
from reconciler.render.status_diagram import diagram
from reconciler.render.status_page import status_page
from tests.plan.build import Story, service, story

BOTH = ("a", "b")
SERVERS = {"a": ServerEntry(name="a", zone="lon1"), "b": ServerEntry(name="b", zone="ams1", state="drained")}
HOSTILE = (
    "plain",
    "a | b | c",
    "line\nbreak\r\n| x |",
    "```\n# heading",
    "</td><script>alert(1)</script>",
    "<!-- comment",
    "![i](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "https://evil.example www.evil.example me@evil.example",
    "*bold* _em_ ~~gone~~ **strong**",
    "@everyone #123 :bug: $x^2$ $$y$$",
    "\\| \\` trailing \\",
    "&lt;b&gt; &#124;",
    "{{ template }} [[_TOC_]] %%{init: {'theme':'dark'}}%%",
    "\x1b[2J\u202egpj.exe\u200b",
    "`code`",
    'end --> x; click a "javascript:alert(1)"',
)


def switching() -> Story:
    """Version x2 is live on the secondary slots, and the old ones drain."""
    begun = story(service(servers=BOTH), servers=BOTH)
    begun.commit(service(digest="x2", servers=BOTH), revision=2).decide()
    begun.obey()
    begun.decide()
    return begun


def decided(begun: Story) -> ClusterState:
    assert begun.cluster is not None
    return begun.cluster


def saying(cluster: ClusterState, text: str) -> ClusterState:
    """The decision with `text` in every place that may hold what people wrote."""
    state = cluster.services["shop/prod/web"]
    assert state.rollout is not None
    told = state.model_copy(update={"rollout": state.rollout.model_copy(update={"cause": text}), "held": text})
    return cluster.model_copy(update={"services": {**cluster.services, "shop/prod/web": told}, "brake": text or None})


def parsed(text: str) -> list[tuple[str, str]]:
    """Every token of the page as CommonMark with tables and strikethrough sees it, with its text."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        found.append((token.type, token.info if token.type == "fence" else ""))
        found += [(child.type, "") for child in token.children or () if child.type not in ("text", "text_special")]
    return found


def texts(text: str) -> str:
    """What a reader sees, without markup."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return "\n".join("".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline")


def test_zones_servers_versions_and_the_rollout_are_on_the_page() -> None:
    page = status_page(decided(switching()), SERVERS, Revision(sha="2".rjust(7, "0") + "0" * 33, subject="commit 2"))
    assert "| shop/prod/web | `0000002` | a secondary, b secondary | switching 0000002/1: " in page
    assert "| ams1 | b | member, drained | shop/prod/web 0000001 primary draining, shop/prod/web 0000002 secondary |" in page
    assert "(commit 2), generation" in page and "1 service: 1 rolling out." in page


def test_the_diagram_groups_by_zone_and_leads_from_the_old_slot_to_the_new_one() -> None:
    lines = "\n".join(diagram(decided(switching()), SERVERS))
    assert lines.index('subgraph z0["zone ams1"]') < lines.index('"b (drained)"') < lines.index('subgraph z1["zone lon1"]')
    assert lines.count("-.->") == 2
    old, new = re.findall(r"(z1s0i\d) -\.-> (z1s0i\d)", lines)[0]
    assert f'{old}["shop/prod/web<br/>0000001 primary, draining"]:::draining' in lines
    assert f'{new}["shop/prod/web<br/>0000002 secondary"]:::live' in lines


def test_in_the_middle_of_a_line_both_versions_are_told_with_their_servers() -> None:
    """DESIGN section 6: a rolling rollout has two versions live at once."""
    told = story(service(servers=BOTH, rolling=Rolling(soak=30.0)), servers=BOTH)
    told.commit(service(digest="x2", servers=BOTH, rolling=Rolling(soak=30.0)), revision=2).decide()
    for _ in range(3):
        told.obey()
        told.decide()
    assert told.phase() == "soaking"
    page = status_page(decided(told), SERVERS)
    assert "| shop/prod/web | `0000001` | b primary, a secondary 0000002 | soaking 0000002/1: " in page
    lines = "\n".join(diagram(decided(told), SERVERS))
    assert '["shop/prod/web<br/>0000001 primary, kept"]:::kept' in lines and lines.count("-.->") == 1


def test_the_same_decision_gives_the_same_bytes_and_no_time_stands_in_it() -> None:
    cluster = decided(switching())
    backwards = cluster.model_copy(update={"services": dict(reversed(list(cluster.services.items())))})
    page = status_page(cluster, SERVERS)
    assert page == status_page(backwards, dict(reversed(SERVERS.items())))
    assert not re.search(r"\b20\d\d-|\d:\d\d|\bago\b", page)


def test_a_settled_cluster_says_so_and_a_removed_server_is_told() -> None:
    page = status_page(decided(story(service(servers=BOTH), servers=BOTH)), {"a": SERVERS["a"]})
    assert "Everything that is desired is live." in page
    assert "|  | b | member | shop/prod/web 0000001 primary |" in page
    assert '"not in the inventory"' in page


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_wrote_is_text_and_nothing_else(text: str) -> None:
    """FAULTS 60."""
    cluster = decided(switching())
    revision = Revision(sha=cluster.config, subject=text)
    page = status_page(saying(cluster, text), SERVERS, revision)
    assert parsed(page) == parsed(status_page(saying(cluster, "plain"), SERVERS, Revision(sha=cluster.config, subject="plain")))
    assert printable(text) in texts(page).replace("\n", " ")
    assert not re.search(r"https?://|www\.|@e", page.partition("```")[0])


@given(st.text(max_size=80))
def test_any_text_in_a_cell_stays_one_cell_with_that_text(text: str) -> None:
    row = f"| h |\n|---|\n| {markdown(text)} |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(row)
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 2
    assert {child.type for child in inline[1].children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in inline[1].children or ()) == printable(text)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_any_label_is_harmless_characters_in_quotes(lines: list[str]) -> None:
    made = label(*lines)
    assert re.fullmatch(r'"[A-Za-z0-9 ._/:,()+=#;-]*(<br/>[A-Za-z0-9 ._/:,()+=#;-]*)*"', made)
    back = [re.sub(r"#(\d+);", lambda match: chr(int(match[1])), line) for line in made[1:-1].split("<br/>")]
    assert back == [printable(line) for line in lines]


def test_a_name_that_only_a_hand_could_have_written_does_nothing_in_the_diagram() -> None:
    cluster = decided(switching())
    odd = cluster.model_copy(
        update={"services": {'x"]\nend\nclick a "javascript:alert(1)"': cluster.services["shop/prod/web"]}, "members": ('"]', "%%")}
    )
    shape = re.compile(
        r'flowchart LR|  subgraph z\d+\["[^"]*"\]|    direction TB|    subgraph \w+\["[^"]*"\]|    end|  end'
        r'|      \w+\["[^"]*"\]:::\w+|    \w+ -\.-> \w+|  classDef \w+ [#\w:,. -]+|  class [\w,]+ box'
    )
    assert [line for line in diagram(odd, {}) if not shape.fullmatch(line)] == []


def test_many_instances_are_counted_by_server_and_many_servers_by_zone() -> None:
    names = tuple(f"s{number:02d}" for number in range(20))
    inventory = {name: ServerEntry(name=name, zone="lon1") for name in names}
    many = decided(story(*(service(f"w{n}", servers=names) for n in range(3)), servers=names))
    lines = "\n".join(diagram(many, inventory))
    assert '["s07<br/>3 live"]:::plain' in lines and "w1" not in lines
    page = status_page(many, inventory)
    assert "| shop/prod/w1 | `0000001` | lon1: 20 servers |" in page
    more = {f"s{number:02d}": ServerEntry(name=f"s{number:02d}", zone="lon1") for number in range(60)}
    assert '["60 servers<br/>60 live"]:::plain' in "\n".join(diagram(many, more))
