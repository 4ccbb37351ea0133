"""Pages are large: how many are on their way is bounded, for a session and for all."""

from __future__ import annotations

from broker.store_link import QUERIES_BYTES_MAX
from restante.wire import limits, store_link
from restante.wire.envelopes import Error, Fetch, Page
from tests.unit.broker.world import Client, World


def fetch(client: Client) -> int:
    return client.say(Fetch(id=client.next_id()))


def asked(world: World) -> int:
    """Pages that the store was asked for and has not answered."""
    return sum(
        isinstance(header, store_link.Ask) and isinstance(header.query, store_link.ReadPage)
        for header, _ in world.store.inbox
    )


def test_a_session_waits_for_so_many_pages_and_no_more() -> None:
    """[R4]"""
    world = World.ready()
    bob, eve = world.log_in("bob"), world.log_in("eve")
    waiting = [fetch(bob) for _ in range(limits.FETCHES_IN_FLIGHT_MAX)]
    assert bob.refusal(fetch(bob)) == "too_many_requests"
    waiting_too = fetch(eve)
    world.settle()
    for request in waiting:
        bob.answer_to(request, Page)
    eve.answer_to(waiting_too, Page)
    assert bob.ask(Fetch(id=bob.next_id()), Page).messages == []
    world.assert_at_rest()
    assert bob.session.fetches == 0


def test_a_page_that_could_not_be_had_waits_no_longer() -> None:
    world = World.ready()
    bob = world.log_in("bob")
    request = [fetch(bob) for _ in range(limits.FETCHES_IN_FLIGHT_MAX)]
    world.drain()
    world.wait(3 * limits.LINK_SILENCE_S_MAX)
    assert {bob.refusal(one) for one in request} == {"unavailable"}
    assert bob.session.fetches == 0


def test_the_store_is_asked_for_no_more_at_once_than_memory_holds() -> None:
    """Else one client that asked for 256 pages had the store hold a gigabyte for it."""
    world = World.ready()
    clients = [world.log_in(f"reader{n}") for n in range(5)]
    requests = [(client, fetch(client)) for client in clients for _ in range(limits.FETCHES_IN_FLIGHT_MAX)]
    world.drain()
    assert asked(world) == QUERIES_BYTES_MAX // limits.PAGE_BYTES_MAX
    world.settle()
    for client, request in requests:
        client.answer_to(request, Page)
    assert world.broker._link._asked_bytes == 0


def test_after_an_opening_no_more_are_asked_for_again() -> None:
    world = World.ready()
    clients = [world.log_in(f"reader{n}") for n in range(5)]
    for client in clients:
        for _ in range(limits.FETCHES_IN_FLIGHT_MAX):
            fetch(client)
    world.drain()
    world.store.inbox.clear()
    world.wait(limits.LINK_SILENCE_S_MAX + 1)
    world.store.open()
    world.drain()
    assert asked(world) <= QUERIES_BYTES_MAX // limits.PAGE_BYTES_MAX
    world.settle()
    assert world.broker._link._asked_bytes == 0
    assert not any(isinstance(envelope, Error) for client in clients for envelope, _ in client.heard)
