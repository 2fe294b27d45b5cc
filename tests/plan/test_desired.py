"""From files to what is desired: defaults, modes, what stays when something is invalid, and what other revisions said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler import ports
from reconciler.errors import Invalid
from reconciler.model.desired import Desired, Health, Mount, PublicRoute, Resources, Revision, Rolling
from reconciler.model.identity import ServiceKey
from reconciler.model.policy import Policy
from reconciler.model.source import SUBMODULE, SYMLINK, Files, SourceFile
from reconciler.plan.desired import library, resolve, validate
from tests.plan.trees import source, tree

DATA = Path(__file__).parents[1] / "data"
REVISION = Revision(sha="a" * 40, subject="Bump api")
NOTHING_ALLOWED = Policy()
SHOP = "projects/shop/prod.yaml"
TWO = "servers:\n  one: {address: 10.0.0.1, zone: lon1}\n  two: {address: 10.0.0.2, zone: lon1}\n"


def key(name: str, project: str = "shop", env: str = "prod") -> ServiceKey:
    return ServiceKey(project, env, name)


def shop(**services: Any) -> str:
    return json.dumps({"project": {"name": "shop", "services": services}})


def desired(files: dict[str, str] | Files, previous: Desired | None = None, policy: Policy = NOTHING_ALLOWED) -> Desired:
    given = {path: file if isinstance(file, SourceFile) else source(path, file.encode()) for path, file in files.items()}
    return resolve(given, "one", policy, REVISION, previous)


WEB = {"image": "nginx:1.29"}


def test_the_example_of_the_design_is_valid_as_it_stands_on_one_server_without_an_inventory() -> None:
    design = (
        '{"project": {"name": "new_project", "version": "1.0.0", "services":'
        ' {"postgres": {"image": "postgres:15", "servers_count": 2, "server_zone": "lon1"},'
        ' "redis": {"image": "redis:7-alpine", "servers_count": 1, "server_zone": "lon1"},'
        ' "api": {"dockerfile": "Dockerfile.api", "servers_count": 3, "server_zone": "lon1"}}}}'
    )
    path = "projects/new_project/uat.json"
    assert (DATA / path).read_text().strip() == design
    files = tree({path: design, "projects/new_project/Dockerfile.api": (DATA / "projects/new_project/Dockerfile.api").read_text()})
    found = resolve(files, "one", NOTHING_ALLOWED, REVISION)
    assert not found.invalid
    assert validate(files, NOTHING_ALLOWED) == []
    services = {service.service: found.services[service] for service in found.services}
    assert {name: (s.spec.port, s.strategy, s.stateful, s.spec.sidecar, s.servers) for name, s in services.items()} == {
        "api": (8080, "toggle", False, True, ("one",)),
        "postgres": (5432, "recreate", True, False, ("one",)),
        "redis": (6379, "recreate", True, False, ("one",)),
    }
    data = Mount(kind="volume", source="new_project_uat_postgres_data", target="/var/lib/postgresql/data")
    assert services["postgres"].spec.mounts == (data,)
    assert services["postgres"].internal_port == ports.internal_port("new_project", "uat", "postgres")
    assert sorted(warning.message.split(":")[0] for warning in found.warnings) == ["api", "postgres", "postgres"]


def test_the_design_example_in_yaml_needs_only_its_future_strategy_taken_out() -> None:
    text = """
project:
  name: shop
  version: 1.0.0
  services:
    postgres:
      image: postgres:16
      servers_count: 1
      server_zone: lon1
      volumes: {data: /var/lib/postgresql/data}
      secrets: [postgres_password]
    redis: {image: redis:7}
    api:
      dockerfile: Dockerfile.api
      servers_count: 2
      server_zone: lon1
      replicas: 2
      needs: {db: postgres, cache: redis}
      health: {http: /up, interval: 2s, timeout: 1s, retries: 15}
      public: {hosts: [shop.example], path: /api, rewrite: /}
      rollout: {strategy: canary, steps: [], analysis: []}
"""
    files = {"cluster.yaml": TWO, "projects/shop/Dockerfile.api": "FROM scratch\nEXPOSE 80\n"}
    with_canary = validate(tree({**files, SHOP: text}), NOTHING_ALLOWED)
    assert [problem.line for problem in with_canary] == [21, 21, 21]
    assert all("not available yet" in problem.message for problem in with_canary)
    found = desired({**files, SHOP: text.replace("rollout: {strategy: canary, steps: [], analysis: []}", "")})
    assert not found.invalid
    api = found.services[key("api")]
    assert api.servers == ("one", "two")
    assert api.replicas == 2
    assert api.spec.health == Health(kind="http", path="/up", interval=2, timeout=1, retries=15)
    assert api.public == (PublicRoute(hosts=("shop.example",), path="/api", rewrite="/"),)
    assert dict(api.spec.env) == {
        "DB_HOST": "localhost",
        "DB_PORT": str(ports.internal_port("shop", "prod", "postgres")),
        "CACHE_HOST": "localhost",
        "CACHE_PORT": str(ports.internal_port("shop", "prod", "redis")),
    }
    assert api.spec.needs == (("cache", key("redis")), ("db", key("postgres")))
    assert found.services[key("postgres")].spec.secrets == ("postgres_password",)


def test_every_option_of_a_service_arrives() -> None:
    service = {
        "image": "registry.example/app:1",
        "port": 8080,
        "internal_port": 5123,
        "needs": {},
        "health": {"command": "check --all", "start_period": "1m", "successes": 3, "min_healthy_time": "5s"},
        "volumes": {"data": {"target": "/data", "shared": True}, "/local/shop/prod/files": {"target": "/files", "read_only": True}},
        "env": {"A": 1, "B": True, "C": "x"},
        "command": ["a", 1],
        "entrypoint": "sh -c 'x y'",
        "user": "1000:1000",
        "working_dir": "/app",
        "resources": {"memory": "1g", "cpus": 1, "pids": 100},
        "stop_signal": "SIGQUIT",
        "init": True,
        "read_only": True,
        "tmpfs": ["/tmp"],
        "privileged": True,
        "cap_add": ["CAP_NET_ADMIN"],
        "rollout": {"strategy": "rolling", "progress_deadline": "2m", "max_parallel": 2, "soak": "1m", "on_failure": "abort_local"},
        "drain": {"websockets": "wait", "timeout": "5m", "grace": 3},
        "suspend": True,
    }
    policy = Policy(allow_privileged=("shop/prod/app",), allow_capabilities=("NET_ADMIN",))
    found = desired({SHOP: shop(app=service)}, policy=policy)
    assert not found.invalid
    app = found.services[key("app")]
    assert (app.internal_port, app.strategy, app.stateful, app.suspend, app.progress_deadline) == (
        5123,
        "rolling",
        False,
        True,
        120.0,
    )
    assert app.rolling == Rolling(max_parallel=2, max_unavailable=0, soak=60.0, on_failure="abort_local")
    assert (app.drain.websockets, app.drain.timeout, app.drain.grace) == ("wait", 300.0, 3.0)
    spec = app.spec
    assert spec.health == Health(kind="command", command=("check", "--all"), start_period=60, successes=3, min_healthy_time=5)
    assert spec.mounts == (
        Mount(kind="volume", source="shop_prod_data", target="/data", shared=True),
        Mount(kind="bind", source="/local/shop/prod/files", target="/files", read_only=True),
        Mount(kind="tmpfs", source="", target="/tmp"),
    )
    assert spec.env == (("A", "1"), ("B", "true"), ("C", "x"))
    assert (spec.command, spec.entrypoint, spec.user, spec.working_dir) == (("a", "1"), ("sh", "-c", "x y"), "1000:1000", "/app")
    assert spec.resources == Resources(memory=1024**3, cpus=1, pids=100)
    assert (spec.stop_signal, spec.init, spec.read_only, spec.privileged, spec.cap_add) == (
        "SIGQUIT",
        True,
        True,
        True,
        ("NET_ADMIN",),
    )
    assert (spec.sidecar, spec.needs, spec.port) == (False, (), 8080)


def test_needs_not_given_means_a_sidecar_for_everything_and_nothing_in_the_environment() -> None:
    found = desired({SHOP: shop(web=WEB, redis={"image": "redis:7"})})
    assert found.services[key("web")].spec.needs is None
    assert found.services[key("web")].spec.sidecar
    assert found.services[key("web")].spec.env == ()


def test_data_may_go_only_when_it_is_said() -> None:
    found = desired(
        {SHOP: shop(cache={"image": "redis:7", "stateless": True}, own={"image": "redis:7", "volumes": {"x": "/data"}})}
    )
    assert (found.services[key("cache")].strategy, found.services[key("cache")].spec.mounts) == ("toggle", ())
    assert [mount.source for mount in found.services[key("own")].spec.mounts] == ["shop_prod_x"]


def test_a_key_of_the_rolling_strategy_means_it_where_none_is_given() -> None:
    found = desired({SHOP: shop(app={"image": "nginx", "rollout": {"soak": 0}}, plain={"image": "nginx"})})
    assert {name.service: (each.strategy, each.rolling.soak) for name, each in found.services.items()} == {
        "app": ("rolling", 0.0),
        "plain": ("toggle", 30.0),
    }


@pytest.mark.parametrize(
    ("image", "data"),
    [
        ("postgres:17", "/var/lib/postgresql/data"),
        ("postgres:18-alpine", "/var/lib/postgresql"),
        ("registry.example:5000/library/mysql:8", "/var/lib/mysql"),
        ("redis@sha256:" + "0" * 64, "/data"),
    ],
)
def test_a_well_known_image_brings_its_data_path(image: str, data: str) -> None:
    mounts = desired({SHOP: shop(db={"image": image})}).services[key("db")].spec.mounts
    assert mounts == (Mount(kind="volume", source="shop_prod_db_data", target=data),)


# --- what is invalid stays as it was -------------------------------------------------------------------------------------------


BROKEN = {
    "not YAML": "project: {",
    "unknown key": shop(web={**WEB, "prot": 80}),
    "refused privilege": shop(web={**WEB, "privileged": True}),
    "empty": "",
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_invalid_project_stays_as_it_was_and_disturbs_no_other(name: str) -> None:
    """FAULTS 43."""
    other = "projects/blog/prod.yaml"
    before = desired(
        {SHOP: shop(web=WEB, api=WEB), other: '{"project": {"name": "blog", "services": {"web": {"image": "httpd:1"}}}}'}
    )
    changed = {SHOP: BROKEN[name], other: '{"project": {"name": "blog", "services": {"web": {"image": "httpd:2"}}}}'}
    after = desired(changed, before)
    assert list(after.invalid) == ["shop/prod"]
    assert after.services[key("web")] == before.services[key("web")]
    assert after.services[key("api")] == before.services[key("api")]
    assert after.services[key("web", "blog")].spec.image == "httpd:2"
    again = desired(changed, after)
    assert again == after
    repaired = desired({SHOP: shop(web=WEB)}, again)
    assert set(repaired.services) == {key("web")}
    assert not repaired.invalid


def test_a_project_that_was_never_valid_is_not_there_and_is_named() -> None:
    found = desired({SHOP: "x"})
    assert (list(found.invalid), found.services) == (["shop/prod"], {})


def test_a_removed_file_removes_its_services() -> None:
    before = desired({SHOP: shop(web=WEB), "projects/shop/uat.yaml": shop(web=WEB)})
    assert set(desired({SHOP: shop(web=WEB)}, before).services) == {key("web")}


@pytest.mark.parametrize("mode", [SYMLINK, SUBMODULE])
@pytest.mark.parametrize("path", [SHOP, "projects/shop", "projects"])
def test_a_link_or_submodule_in_the_way_is_refused_by_name_and_removes_nothing(path: str, mode: int) -> None:
    """FAULTS 49."""
    before = desired({SHOP: shop(web=WEB)})
    files = {path: source(path, b"elsewhere", mode)}
    after = desired(files, before)
    assert after.services == before.services
    problems = [problem for found in after.invalid.values() for problem in found]
    assert len(problems) == 1
    assert problems[0].path == path
    assert ("symbolic link" if mode == SYMLINK else "submodule") in problems[0].message
    assert [problem.message for problem in validate(files, NOTHING_ALLOWED)] == [problems[0].message]


@pytest.mark.parametrize("mode", [SYMLINK, SUBMODULE])
@pytest.mark.parametrize("path", ["projects/shop/docker/Dockerfile", "projects/shop/docker"])
def test_a_dockerfile_behind_a_link_or_submodule_is_refused(path: str, mode: int) -> None:
    """FAULTS 49."""
    files = {**tree({SHOP: shop(api={"dockerfile": "docker/Dockerfile"})}), path: source(path, b"elsewhere", mode)}
    messages = [problem.message for problem in validate(files, NOTHING_ALLOWED)]
    assert len(messages) == 1
    assert f"{path} is a s" in messages[0]


def test_a_submodule_in_a_build_context_is_refused_because_its_files_are_not_there() -> None:
    """FAULTS 49."""
    texts = {SHOP: shop(api={"dockerfile": "Dockerfile"}), "projects/shop/Dockerfile": "FROM scratch\nCOPY lib /lib\nEXPOSE 80\n"}
    files = {**tree(texts), "projects/shop/lib": source("projects/shop/lib", b"", SUBMODULE)}
    assert ["lib in the build context is a submodule" in problem.message for problem in validate(files, NOTHING_ALLOWED)] == [True]


def test_a_file_whose_bytes_were_too_many_is_invalid_and_not_gone() -> None:
    """FAULTS 48."""
    before = desired({SHOP: shop(web=WEB)})
    after = resolve({SHOP: SourceFile(SHOP, 0o100644, "0" * 40)}, "one", NOTHING_ALLOWED, REVISION, before)
    assert after.services == before.services
    assert list(after.invalid) == ["shop/prod"]


# --- the inventory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["servers: {", "servers: {}", "servers: {one: {}, two: {}}"])
def test_an_unreadable_inventory_keeps_the_one_before(text: str) -> None:
    before = desired({"cluster.yaml": TWO, SHOP: shop(web=WEB)})
    after = desired({"cluster.yaml": text, SHOP: shop(web=WEB, api=WEB)}, before)
    assert after.servers == before.servers
    assert list(after.invalid) == ["cluster.yaml"]
    assert key("api") in after.services
    with pytest.raises(Invalid, match=r"cluster\.yaml"):
        desired({"cluster.yaml": text, SHOP: shop(web=WEB)})


def test_an_inventory_that_vanished_is_kept_because_each_server_would_think_it_is_alone() -> None:
    """FAULTS 41."""
    before = desired({"cluster.yaml": TWO, SHOP: shop(web=WEB)})
    after = desired({SHOP: shop(web=WEB)}, before)
    assert (after.servers, list(after.invalid)) == (before.servers, ["cluster.yaml"])
    assert after.services == before.services


def test_too_few_servers_stall_the_service_at_run_time_and_fail_validation() -> None:
    files = {"cluster.yaml": TWO, SHOP: shop(web={**WEB, "servers_count": 3, "server_zone": "lon1"}, api=WEB)}
    found = desired(files)
    assert not found.invalid
    assert (found.services[key("web")].servers, found.services[key("api")].stalled) == (("one", "two"), None)
    assert "zone lon1 has 2 active" in (found.services[key("web")].stalled or "")
    assert ["zone lon1 has 2 active" in problem.message for problem in validate(tree(files), NOTHING_ALLOWED)] == [True]


def test_settings_of_the_inventory_arrive() -> None:
    text = TWO + "rollout: {ack_timeout: 30s, progress_deadline: 5m}\nallow_removals: [shop, blog/prod]\n"
    found = desired({"cluster.yaml": text, SHOP: shop(web=WEB, api={**WEB, "rollout": {"progress_deadline": 7}})})
    assert (found.ack_timeout, found.allow_removals) == (30.0, ("shop", "blog/prod"))
    assert (found.services[key("web")].progress_deadline, found.services[key("api")].progress_deadline) == (300.0, 7.0)


def test_pins_move_a_service_and_a_drained_pin_of_a_database_stalls_by_name() -> None:
    text = TWO.replace("zone: lon1}\n", "zone: lon1, state: drained}\n", 1)
    services = shop(web={**WEB, "servers": ["one", "two"]}, db={"image": "postgres:16", "servers": ["one"]})
    found = desired({"cluster.yaml": text, SHOP: services})
    assert (found.services[key("web")].servers, found.services[key("web")].pinned) == (("two",), True)
    assert found.services[key("web")].stalled is None
    assert found.services[key("db")].servers == ("one",)
    assert "pinned to one, which is drained" in (found.services[key("db")].stalled or "")


def test_draining_every_server_of_a_zone_changes_neither_the_mode_nor_the_digest_of_a_database() -> None:
    before = desired({"cluster.yaml": TWO, SHOP: shop(db={"image": "postgres:16"})})
    text = TWO.replace("zone: lon1}", "zone: lon1, state: drained}")
    after = desired({"cluster.yaml": text, SHOP: shop(db={"image": "postgres:16"})})
    assert (after.services[key("db")].servers, after.services[key("db")].homeless) == ((), True)
    assert after.services[key("db")].spec == before.services[key("db")].spec


# --- backend mode --------------------------------------------------------------------------------------------------------------


def published(cluster: str | None, **services: Any) -> dict[str, bool]:
    found = desired({SHOP: shop(**services), **({"cluster.yaml": cluster} if cluster else {})})
    assert not found.invalid
    return {service.key.service: service.spec.publish for service in found.services.values()}


def test_one_server_publishes_nothing_except_a_database_that_has_an_address_to_be_reached_at() -> None:
    db = {"image": "postgres:16"}
    assert published(None, web=WEB, db=db) == {"web": False, "db": False}
    assert published("servers: {one: {}}", web=WEB, db=db) == {"web": False, "db": False}
    assert published("servers: {one: {address: 10.0.0.1}}", web=WEB, db=db) == {"web": False, "db": True}


def test_a_second_server_makes_its_services_publish_and_leaves_the_database_as_it_is() -> None:
    db = {"image": "postgres:16"}
    one = desired({"cluster.yaml": "servers: {one: {address: 10.0.0.1}}", SHOP: shop(web=WEB, db=db)})
    two = desired({"cluster.yaml": "servers: {one: {address: 10.0.0.1}, two: {address: 10.0.0.2}}", SHOP: shop(web=WEB, db=db)})
    assert two.services[key("web")].spec.publish
    assert one.services[key("db")].spec.digest == two.services[key("db")].spec.digest
    assert one.services[key("web")].spec.digest != two.services[key("web")].spec.digest


def test_zones_of_one_server_each_publish_only_what_is_called_from_the_other() -> None:
    apart = "servers: {one: {address: 10.0.0.1, zone: a}, two: {address: 10.0.0.2, zone: b}}"
    here, there = {**WEB, "server_zone": "a"}, {**WEB, "server_zone": "b"}
    assert published(apart, web={**here, "needs": {}}, api={**there, "needs": {}}) == {"web": False, "api": False}
    assert published(apart, web={**here, "needs": {"api": "api"}}, api={**there, "needs": {}}) == {"web": False, "api": True}


# --- names that only one may have ----------------------------------------------------------------------------------------------


def test_who_has_a_public_route_keeps_it_and_the_newcomer_is_invalid() -> None:
    def public(name: str, host: str) -> str:
        return json.dumps({"project": {"name": name, "services": {"web": {**WEB, "public": {"hosts": [host]}}}}})

    blog, zoo = "projects/blog/prod.yaml", "projects/zoo/prod.yaml"
    before = desired({zoo: public("zoo", "zoo.example"), blog: public("blog", "blog.example")})
    after = desired({zoo: public("zoo", "zoo.example"), blog: public("blog", "zoo.example")}, before)
    assert list(after.invalid) == ["blog/prod"]
    assert "zoo.example/ is public twice: zoo/prod/web has it already" in after.invalid["blog/prod"][0].message
    assert after.services == before.services


def test_an_invalid_project_keeps_its_routes_from_a_newcomer_too() -> None:
    taking = json.dumps({"project": {"name": "blog", "services": {"web": {**WEB, "public": {"hosts": ["shop.example"]}}}}})
    before = desired({SHOP: shop(web={**WEB, "public": {"hosts": ["shop.example"]}})})
    after = desired({SHOP: "{", "projects/blog/prod.yaml": taking}, before)
    assert list(after.invalid) == ["blog/prod", "shop/prod"]
    assert after.services == before.services


def test_policy_opens_exactly_what_it_names() -> None:
    """FAULTS 54."""
    volumes = {"/srv/media": "/media", "/srv/other": "/other", "/var/run": "/run2"}
    files = {SHOP: shop(web={**WEB, "stateless": True, "volumes": volumes, "privileged": True})}
    policy = Policy(allow_host_paths=("/srv/media", "/var"), allow_privileged=("shop/uat",))
    found = desired(files, policy=policy)
    messages = [problem.message for problem in found.invalid["shop/prod"]]
    assert [message.split(" ")[1] for message in messages] == ["/srv/other", "/var/run", "privileged"]


# --- other revisions -----------------------------------------------------------------------------------------------------------


def test_the_library_has_both_modes_of_a_service_at_another_revision() -> None:
    files = tree({SHOP: shop(web={**WEB, "needs": {"db": "db"}}, db={"image": "postgres:16"})})
    now = resolve(files, "one", NOTHING_ALLOWED, REVISION)
    alone, published_ = library(files, key("web"), "one", NOTHING_ALLOWED)
    assert alone == now.services[key("web")]
    assert (alone.spec.publish, published_.spec.publish) == (False, True)
    assert alone.spec.digest != published_.spec.digest
    assert published_.spec.env == alone.spec.env
    clustered = resolve({**files, **tree({"cluster.yaml": TWO})}, "one", NOTHING_ALLOWED, REVISION)
    assert published_.spec == clustered.services[key("web")].spec
    assert library(files, key("gone"), "one", NOTHING_ALLOWED) == ()
    assert library({}, key("web"), "one", NOTHING_ALLOWED) == ()
    assert library(tree({SHOP: "{"}), key("web"), "one", NOTHING_ALLOWED) == ()


def test_a_revision_of_a_hundred_projects_is_read_within_the_time_of_a_pass() -> None:
    """FAULTS 48: many services are no fault; ports of different projects never collide in one namespace."""
    services = {f"s{n}": {**WEB, "needs": {}, "port": 80} for n in range(20)}
    texts = {f"projects/p{n}/prod.json": json.dumps({"project": {"name": f"p{n}", "services": services}}) for n in range(100)}
    found = desired(texts)
    assert (len(found.services), found.invalid) == (2000, {})
