"""Interactive first, bulk never starved."""

from embedder_service.fair_share import FairShare, Priority


def test_bulk_gets_one_pick_in_five_beside_interactive_work() -> None:
    share = FairShare(bulk_every=5)
    picks = [share.pick(interactive=True, bulk=True) for _ in range(20)]
    assert picks.count(Priority.BULK) == 4
    assert picks[:5] == [Priority.INTERACTIVE] * 4 + [Priority.BULK]


def test_alone_each_class_goes_at_once() -> None:
    share = FairShare()
    assert share.pick(interactive=False, bulk=True) is Priority.BULK
    assert share.pick(interactive=True, bulk=False) is Priority.INTERACTIVE
    assert share.pick(interactive=False, bulk=False) is None


def test_bulk_that_comes_late_has_saved_no_turns() -> None:
    share = FairShare(bulk_every=3)
    for _ in range(10):
        share.pick(interactive=True, bulk=False)
    assert share.pick(interactive=True, bulk=True) is Priority.INTERACTIVE
