"""Which cluster state is gone on from when the remote's and this server's own differ."""

from __future__ import annotations

import pytest

from reconciler.engine.following import Copy, follow, read_cluster, seen_by, write_yaml
from reconciler.engine.reports import read_report
from reconciler.errors import Stalled
from reconciler.model.cluster import Backend, ClusterState, Decider, ServiceState
from reconciler.model.report import Condition, Report, Seen


def state(generation: int = 5, epoch: str = "e1", server: str = "a", members: tuple[str, ...] = ("a",)) -> ClusterState:
    return ClusterState(
        epoch=epoch, generation=generation, decided_by=Decider(server=server, program="1"), members=members, config="c" * 40
    )


def chosen(
    remote: ClusterState | bytes | None, own: Copy | None, oid: str | None = "new"
) -> tuple[ClusterState | None, str | None]:
    data = write_yaml(remote) if isinstance(remote, ClusterState) else remote
    followed = follow(data, oid, own, server="b", epoch="fresh", accepted=False)
    assert followed.based_on == oid
    return followed.cluster, followed.notice


def test_without_a_copy_the_remote_is_followed_and_damage_is_told() -> None:
    assert chosen(state(), None) == (state(), None)
    assert chosen(None, None) == (None, None)
    cluster, notice = chosen(b"]garbage[", None)
    assert cluster is None and notice is not None and "status/cluster" in notice


def test_on_the_tip_that_it_was_made_on_the_own_copy_is_ahead() -> None:
    own = Copy(state(7), "tip", ("decided",))
    assert chosen(state(5), own, "tip") == (own.cluster, None)


def test_a_later_decision_of_somebody_else_is_followed() -> None:
    members = ("a", "b")
    assert chosen(state(8, server="b", members=members), Copy(state(7, members=members), "old")) == (
        state(8, server="b", members=members),
        None,
    )


def test_a_push_of_its_own_whose_outcome_was_unknown_loses_nothing() -> None:
    """FAULTS 33: it landed, and this server has decided more since."""
    own = Copy(state(7), "old", ("decided more",))
    assert chosen(state(6), own) == (own.cluster, None)


def test_what_others_decided_goes_before_what_it_has_not_told_yet() -> None:
    """It took a second member in, its push landed unheard, and the other one has decided since: none of that may be undone."""
    members = ("a", "b")
    own = Copy(state(7, members=members), "old", ("b joins",))
    for remote in (state(9, server="b", members=members), state(7, server="b", members=members)):
        assert chosen(remote, own) == (remote, None)


@pytest.mark.parametrize("remote", [None, b"", b"]garbage[", b"schema: 1\n", state(3, server="b", members=("a", "b")),
                                    state(3, members=("a", "b"))])  # fmt: skip
def test_a_lost_damaged_or_rewound_one_is_rebuilt_under_a_new_epoch_and_said(remote: ClusterState | bytes | None) -> None:
    """FAULTS 35: nobody may count an old acknowledgement for the rebuilt state."""
    own = Copy(state(7, members=("a", "b")), "old")
    cluster, notice = chosen(remote, own)
    assert cluster is not None and (cluster.epoch, cluster.generation) == ("fresh", 8)
    assert cluster.decided_by.server == "b", "who rebuilds it publishes it, whoever decided last"
    assert cluster.members == own.cluster.members and cluster.services == own.cluster.services
    assert notice is not None and "rebuilt" in notice


def test_a_branch_that_was_put_back_and_decided_upon_again_is_noticed_within_its_generation() -> None:
    members = ("a", "b")
    backend = Backend(server="a", slot="primary", spec="x1", role="live", weight=100)
    live = state(7, members=members).model_copy(
        update={"services": {"shop/prod/web": ServiceState(internal_port=5000, container_port=80, backends=(backend,))}}
    )
    cluster, notice = chosen(state(7, server="b", members=members), Copy(live, "old"))
    assert cluster is not None and (cluster.epoch, cluster.services) == ("fresh", live.services)
    assert notice is not None and "replaced" in notice


def test_a_rebuild_by_somebody_else_is_followed_although_its_generation_is_lower() -> None:
    assert chosen(state(2, epoch="e2", server="b"), Copy(state(7), "old")) == (state(2, epoch="e2", server="b"), None)


def test_what_a_sole_member_has_not_pushed_yet_goes_before_a_rebuild_from_an_older_copy() -> None:
    """Found by the simulation (seed 2439): it was cut off while the branch was changed by hand and rebuilt by another server."""
    rebuilt = state(3, epoch="e2", server="b").model_copy(update={"superseded_at": {"e1": 2}})
    ahead, as_old = Copy(state(3), "old", ("x live",)), Copy(state(2), "old", ("x waiting",))
    assert chosen(rebuilt, ahead)[0] not in (rebuilt, None)
    assert chosen(rebuilt, as_old) == (rebuilt, None)


def test_an_epoch_that_was_given_up_and_is_put_back_is_no_rebuild_by_somebody_else() -> None:
    own = Copy(state(9, epoch="e2").model_copy(update={"superseded": ("e1",)}), "old")
    cluster, notice = chosen(state(12, epoch="e1", server="b"), own)
    assert cluster is not None and (cluster.epoch, cluster.superseded) == ("fresh", ("e1", "e2"))
    assert notice is not None and "given up" in notice


def test_a_newer_schema_is_waited_for_not_overwritten() -> None:
    """FAULTS 7."""
    with pytest.raises(Stalled, match="upgrade"):
        follow(b"schema: 99\nepoch: e9\n", "new", Copy(state(7), "old"), server="b", epoch="fresh", accepted=False)


def test_unknown_keys_of_the_same_schema_are_no_damage() -> None:
    assert read_cluster(write_yaml(state()) + b"added_later: 3\n") is not None


DEEP = {
    "brackets": b"[" * 200_000,
    "braces": b"{a: " * 200_000,
    "closed": b"[" * 200_000 + b"]" * 200_000,
    "dashes": b"- " * 200_000 + b"x",
    "in lines": b"[\n" * 200_000,
    "indented": b"".join(b" " * depth + b"a:\n" for depth in range(2_500)),
    "keys": b"? " * 200_000,
}


@pytest.mark.parametrize("case", DEEP)
def test_a_file_that_only_nests_is_refused_and_does_not_end_the_program(case: str) -> None:
    with pytest.raises(ValueError, match=r"is not YAML|is nested more than 200 levels deep"):
        read_cluster(DEEP[case])
    assert isinstance(read_report("a", DEEP[case]), Condition)


def test_without_a_copy_a_rewound_state_is_known_by_the_reports() -> None:
    """Found by the simulation (seed 6374): a server that lost its disk followed a decision from before what is live."""
    reports = [
        Report(server=name, instance=name, program="1", seen=Seen(config="c", epoch="e1", generation=generation))
        for name, generation in (("a", 7), ("b", 5))
    ]
    seen = seen_by(reports)
    found = follow(write_yaml(state(6)), "tip", None, server="a", epoch="fresh", accepted=False, seen=seen)
    assert (found.cluster, found.based_on) == (None, "tip")
    assert found.notice is not None and "rewound to generation 6: the reports speak of 7" in found.notice
    for fine in (state(7), state(2, epoch="e2"), state(6, members=("b",))):  # of the last one it is no member
        assert follow(write_yaml(fine), "tip", None, server="a", epoch="fresh", accepted=False, seen=seen).cluster == fine


@pytest.mark.parametrize(
    ("found", "followed"),
    [
        ({"epoch": "e9", "superseded_at": {"e2": 4}}, True),  # rebuilt from what this server follows
        ({"epoch": "e9", "superseded_at": {"e2": 3}}, False),  # from before it
        ({"epoch": "e9", "superseded_at": {"e1": 2}}, True),  # both rebuilt from the same: as many generations
        ({"epoch": "e9", "superseded_at": {"e1": 2}, "generation": 3}, False),  # fewer of them
        ({"epoch": "e0"}, False),  # from before everything was lost (seed 544)
    ],
)
def test_of_two_that_do_not_come_from_each_other_the_one_that_knows_more_is_followed(
    found: dict[str, object], followed: bool
) -> None:
    own = Copy(state(4, epoch="e2").model_copy(update={"superseded": ("e1",), "superseded_at": {"e1": 2}}), "old")
    other = state(4, server="c").model_copy(update=found)
    chosen_one = follow(write_yaml(other), "new", own, server="b", epoch="fresh", accepted=False, lacks="old")
    assert chosen_one.cluster is not None
    assert chosen_one.cluster.epoch == (other.epoch if followed else "fresh")
    if not followed:
        assert chosen_one.cluster.superseded_at[other.epoch] == other.generation
