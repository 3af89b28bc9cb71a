"""Which Redis primary may promise units, as the database decides it."""

import asyncio
from dataclasses import replace

import pytest

from order_svc.sales.generation import Current, Other, Store, StoreGeneration
from tests.kits.factories import new_id
from tests.kits.order_store import Store as OrderStore
from tests.kits.waiting import eventually

LEASE_S = 30.0


def a_store(**facts: object) -> Store:
    """A primary that nobody has heard of, with sales and no token, but for `facts`."""
    known = {
        "replication_id": new_id("replid"),
        "previous_replication_id": "0" * 40,
        "run_id": new_id("run"),
        "token": "",
        "mesh_id": "",
        "empty": False,
    }
    return Store(**(known | facts))  # type: ignore[arg-type]


@pytest.fixture
def generation(store: OrderStore) -> StoreGeneration:
    """The generation in a database of the test's own; no store was ever current."""
    return StoreGeneration(store.database)


async def current(generation: StoreGeneration, store: Store, *, lease_s: float = 0.1) -> Current:
    """What the database says of a store that is current."""
    answer = await generation.confirm(store, lease_s=lease_s)
    assert isinstance(answer, Current)
    return answer


async def settled(generation: StoreGeneration, store: Store) -> Store:
    """The store with its token, which the database has seen."""
    answer = await current(generation, store)
    keeping = replace(store, token=answer.token)
    await asyncio.sleep(answer.wait_s)
    await current(generation, keeping)
    return keeping


async def test_confirming_again_changes_nothing(generation: StoreGeneration) -> None:
    """The first store is current at once, however often and by however many it is confirmed."""
    store = a_store()
    first, *others = await asyncio.gather(*(generation.confirm(store, lease_s=1) for _ in range(8)))
    assert isinstance(first, Current)
    assert {other.token for other in others if isinstance(other, Current)} == {first.token}
    assert (first.generation, first.wait_s) == (1, 0.0)


async def test_a_promoted_replica_follows_once_the_lease_is_over(
    generation: StoreGeneration,
) -> None:
    """The old primary is refused at once; the new one waits until nobody promises by the old."""
    old = await settled(generation, a_store())
    await current(generation, old, lease_s=LEASE_S)
    promoted = a_store(token=old.token, previous_replication_id=old.replication_id)
    answer = await current(generation, promoted)
    assert answer.generation == 2
    assert LEASE_S - 5 < answer.wait_s <= LEASE_S
    assert await generation.confirm(old, lease_s=LEASE_S) == Other(2)
    # Asked again, and for others on it: they wait as long.
    assert 0 < (await current(generation, promoted)).wait_s <= answer.wait_s


async def test_a_replica_promoted_before_it_had_the_token_follows(
    generation: StoreGeneration,
) -> None:
    """It says whose replica it was."""
    old = await settled(generation, a_store())
    assert isinstance(
        await generation.confirm(a_store(previous_replication_id=old.replication_id), lease_s=1),
        Current,
    )


async def test_a_stale_primary_that_was_started_again_is_refused(
    generation: StoreGeneration,
) -> None:
    """It has a new replication id, and the token of an earlier generation."""
    old = await settled(generation, a_store())
    new = await settled(
        generation, a_store(token=old.token, previous_replication_id=old.replication_id)
    )
    assert new.token != old.token
    assert await generation.confirm(a_store(token=old.token), lease_s=1) == Other(2)
    assert await generation.confirm(a_store(), lease_s=1) == Other(2)


async def test_the_old_primary_does_not_take_an_unsettled_generation_back(
    generation: StoreGeneration,
) -> None:
    """The generation would be raised to and fro for ever."""
    old = await settled(generation, a_store())
    await current(generation, a_store(token=old.token))
    assert await generation.confirm(old, lease_s=1) == Other(2)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"keeps_token": True}, id="with its data"),
        pytest.param({"empty": True}, id="without data"),
        pytest.param({"keeps_replication": True}, id="with an old snapshot"),
    ],
)
async def test_the_current_primary_may_start_again(
    generation: StoreGeneration, facts: dict[str, bool]
) -> None:
    """It has another replication id then, and needs nobody's help."""
    old = await settled(generation, a_store())
    restarted = a_store(
        token=old.token if "keeps_token" in facts else "",
        previous_replication_id=old.replication_id if "keeps_replication" in facts else "",
        empty="empty" in facts,
    )
    assert (await current(generation, restarted)).generation == 2


async def test_a_primary_that_loses_its_token_before_it_promised_may_start_again(
    generation: StoreGeneration,
) -> None:
    """A crash right after the promotion: its files have the token of the generation before."""
    old = await settled(generation, a_store())
    await current(generation, a_store(token=old.token))
    assert (await current(generation, a_store(token=old.token))).generation == 3


async def test_a_replication_id_that_changes_while_the_server_runs_changes_nothing(
    generation: StoreGeneration,
) -> None:
    """Redis takes another one an hour after its last replica has gone."""
    store = await settled(generation, a_store())
    renamed = replace(store, replication_id=new_id("replid"))
    await current(generation, store, lease_s=LEASE_S)
    answer = await current(generation, renamed)
    assert (answer.generation, answer.wait_s) == (1, 0.0)


async def test_a_stale_primary_follows_once_the_current_one_is_abandoned(
    store: OrderStore,
) -> None:
    """Nobody has a lease on the current one any more; the stale sales are to be discarded."""
    generation = StoreGeneration(store.database, abandoned_after_s=0.0)
    old = await settled(generation, a_store())
    await settled(generation, a_store(previous_replication_id=old.replication_id))

    # Once the lease of the other one is over.
    answer = await eventually(lambda: _current_or_none(generation, old))
    assert answer is not None
    assert (answer.generation, answer.discard) == (3, True)
    # Said until it keeps the token, and never again.
    assert (await current(generation, old)).discard
    keeping = replace(old, token=answer.token)
    assert not (await current(generation, keeping)).discard
    assert not (await current(generation, old)).discard


async def _current_or_none(generation: StoreGeneration, store: Store) -> Current | None:
    answer = await generation.confirm(store, lease_s=1)
    return answer if isinstance(answer, Current) else None


async def test_the_redis_of_another_mesh_is_never_taken(
    generation: StoreGeneration, store: OrderStore
) -> None:
    """Not as the first one, not when it is empty, and not once no other store is left."""
    abandoned = StoreGeneration(store.database, abandoned_after_s=0.0)
    for foreign in (a_store(mesh_id="other"), a_store(mesh_id="other", empty=True)):
        assert await abandoned.confirm(foreign, lease_s=0.1) == Other(0, foreign=True)
    own = a_store()
    mesh_id = (await current(generation, own)).mesh_id
    assert mesh_id == (await current(generation, replace(own, mesh_id=mesh_id))).mesh_id
    told = await abandoned.confirm(replace(own, mesh_id="other"), lease_s=0.1)
    assert told == Other(1, foreign=True)


async def test_each_shard_of_a_cluster_has_a_generation_of_its_own(
    generation: StoreGeneration,
) -> None:
    """The failover of one changes nothing for the other; both are of one mesh."""
    one, other = a_store(shard=new_id("shard")), a_store(shard=new_id("shard"))
    one, other = await settled(generation, one), await settled(generation, other)
    successor = a_store(shard=one.shard, token=one.token)
    raised = await current(generation, successor)
    assert raised.generation == 2
    told = await current(generation, other)
    assert (told.generation, told.token) == (1, other.token)
    assert told.mesh_id == raised.mesh_id
    assert isinstance(await generation.confirm(one, lease_s=1), Other)


async def test_a_primary_of_one_shard_is_not_that_of_another(generation: StoreGeneration) -> None:
    """A token that slots have brought along does not make it one that has the other's data."""
    one, other = a_store(shard=new_id("shard")), a_store(shard=new_id("shard"))
    one, other = await settled(generation, one), await settled(generation, other)
    assert isinstance(
        await generation.confirm(a_store(shard=other.shard, token=one.token), lease_s=1), Other
    )
    # Known by its replication id it stays current, and is told its own token.
    assert (await current(generation, replace(other, token=one.token))).token == other.token


async def test_a_cluster_and_a_redis_on_its_own_never_promise_at_once(
    generation: StoreGeneration,
) -> None:
    """The one that comes waits until the leases of the other kind are over, either way."""
    alone, shard = a_store(), a_store(shard=new_id("shard"))
    await current(generation, alone, lease_s=LEASE_S)
    assert isinstance(await generation.confirm(shard, lease_s=1), Other)


async def test_a_redis_on_its_own_waits_for_the_shards(generation: StoreGeneration) -> None:
    """Also one that was current before the mesh moved to a cluster."""
    alone = a_store()
    await current(generation, alone, lease_s=0.1)
    shard = a_store(shard=new_id("shard"))

    async def confirmed() -> bool:
        return isinstance(await generation.confirm(shard, lease_s=LEASE_S), Current)

    await eventually(confirmed)
    assert isinstance(await generation.confirm(alone, lease_s=1), Other)
