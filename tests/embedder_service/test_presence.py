"""Whether interactive work is around."""

from embedder_service.presence import InteractivePresence
from tests.clock import Clock


def test_a_call_is_around_from_arrival_until_a_while_after_its_answer() -> None:
    clock = Clock()
    presence = InteractivePresence(clock, memory_seconds=5)
    assert not presence.around()
    presence.arrived()
    clock.now += 100
    assert presence.around()
    presence.left()
    clock.now += 4.9
    assert presence.around()
    clock.now += 0.2
    assert not presence.around()


def test_the_last_of_several_counts() -> None:
    clock = Clock()
    presence = InteractivePresence(clock, memory_seconds=5)
    presence.arrived()
    presence.arrived()
    presence.left()
    clock.now += 10
    assert presence.around()
    presence.left()
    clock.now += 5
    assert not presence.around()
