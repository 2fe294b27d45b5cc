"""An application that does not listen, under load of POSTs: its own server's nginxes send them to the other servers' instances."""

from __future__ import annotations

import docker.models.containers
import pytest

from tests.cluster.bed import SLOW_START, Bed
from tests.cluster.namespaces import end
from tests.cluster.traffic import Traffic

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.cluster]
FLAG = {"volumes": {"flag": {"target": "/flag", "read_only": True}}}
"""A file in it keeps the application from coming up again."""
NAME, CALLER = "shop_prod_web", "shop_prod_caller"


@pytest.fixture
def two(bed: Bed) -> Bed:
    """Two servers with an instance each, which listens 2 s after its start; a also has somebody who calls it."""
    env = {"DIE_IF_EXISTS": "/flag/down", "START_DELAY": "2"}
    web = bed.web("1", servers_count=2, **{**SLOW_START, "env": env}, **FLAG)
    bed.begin({"web": web, "caller": bed.app("1", servers=["a"])}, bed.inventory("a", "b"))
    return bed


def instance(bed: Bed) -> docker.models.containers.Container:
    """The application's container on a."""
    return bed.server("a").engine.client.containers.get(NAME)


def flag(bed: Bed, *command: str) -> None:
    """Change a's flag."""
    client = bed.server("a").engine.client
    client.containers.run(
        bed.images.app, [*command, "/flag/down"], entrypoint=[], remove=True, volumes={"shop_prod_flag": {"bind": "/flag"}}
    )


def goes_on(bed: Bed, traffic: Traffic, requests: int = 100) -> None:
    """Waits until so many more have been sent on each way."""
    before = {name: report.sent for name, report in traffic.now.reports.items()}
    told = f"{requests} more on each way"
    bed.eventually(lambda: all(r.sent > before[name] + requests for name, r in traffic.now.reports.items()), 60, told)


def test_an_application_that_crashes_costs_the_posts_that_it_had_in_hand_and_no_other(two: Bed) -> None:
    """Its container is restarted again and again, and then comes up without listening for a while; nobody passes it over."""
    bed = two
    a = bed.server("a")
    both = {bed.server(name).host_name(f"{NAME}_sidecar") for name in ("a", "b")}
    own = {a.host_name(f"{NAME}_sidecar")}
    assert a.answers() == both
    with bed.posts("a", "web", within=CALLER) as traffic:
        a.freeze()
        flag(bed, "touch")
        end([int(instance(bed).attrs["State"]["Pid"])])
        goes_on(bed, traffic)
        assert a.answers() == both - own
        flag(bed, "rm")
        bed.eventually(lambda: a.answers() == both, 90, "it to be back")
        goes_on(bed, traffic)
        a.thaw()
        seen = traffic.stop()
    print(f"\n{seen.sent} POSTs, {seen.failed} of them in the hands of what crashed")
    bed.only_under_way(seen)


def test_an_application_that_is_put_back_into_its_sidecar_gets_nothing_before_it_listens(two: Bed) -> None:
    bed = two
    a = bed.server("a")
    with bed.posts("a", "web", within=CALLER) as traffic:
        before = str(instance(bed).id)
        instance(bed).remove(force=True)
        bed.eventually(lambda: a.ids(NAME).get(NAME, before).split()[0] != before, 60, "another one in its place")
        goes_on(bed, traffic)
        bed.eventually(lambda: len(a.answers()) == 2, 60, "it to be used again")
        seen = traffic.stop()
    print(f"\n{seen.sent} POSTs, {seen.failed} of them in the hands of what was removed")
    bed.only_under_way(seen)
