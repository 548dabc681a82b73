"""Searches that name no combiner are answered by the catalog's own, where `cir adapt` made one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from cir.combiner.v1.combiner_pb2 import Combiner
from cir.common.v1 import errors_pb2
from cir.composers import ADAPTED_TO
from cir.limits import DEFAULT_COMBINER
from cir.models import SearchInfo
from cir.search.v1.search_pb2 import GetSearchInfoRequest, Reference, SearchRequest, Turn
from search_service.adapted_combiners import AdaptedCombiners
from search_service.request import parse_search, query_digest
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from service_runtime.page_token import PageToken
from tests.clock import Clock
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import FINGERPRINT

OWN = "combiner/shop"


def adapted(name: str = OWN, catalog: str = "shop", fingerprint: str = FINGERPRINT) -> Combiner:
    return Combiner(name=name, model_fingerprint=fingerprint, metadata={ADAPTED_TO: catalog})


class Source:
    """A list of combiners that can be away, and counts how often it is asked for."""

    def __init__(self, *combiners: Combiner) -> None:
        self.combiners = list(combiners)
        self.is_away = False
        self.asked = 0

    async def usable(self, *, timeout: float) -> list[Combiner]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise ServiceError(errors_pb2.COMBINER_UNAVAILABLE, "away")
        return list(self.combiners)


async def settle() -> None:
    """Let what was started come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_what_was_made_for_the_catalog_and_its_model_is_taken() -> None:
    source = Source(
        adapted(),
        adapted("combiner/other"),
        adapted("combiner/red", "red", "clip-other"),
        Combiner(name="combiner/bags", model_fingerprint=FINGERPRINT),
    )
    known = AdaptedCombiners(source)
    assert await known.of("shop", FINGERPRINT) == OWN
    for catalog, model in (("shop", "clip-other"), ("red", FINGERPRINT), ("bags", FINGERPRINT), ("", "")):
        assert await known.of(catalog, model) == ""
    await known.close()


async def test_the_list_is_asked_for_once_and_again_when_it_is_old() -> None:
    source, clock = Source(), Clock()
    known = AdaptedCombiners(source, clock)
    assert set(await asyncio.gather(*(known.of("shop", FINGERPRINT) for _ in range(20)))) == {""}
    assert source.asked == 1
    source.combiners.append(adapted())
    clock.now += 9
    assert await known.of("shop", FINGERPRINT) == ""
    clock.now += 2
    assert set(await asyncio.gather(*(known.of("shop", FINGERPRINT) for _ in range(20)))) == {OWN}
    assert source.asked == 2
    known.forget(OWN)
    assert await known.of("shop", FINGERPRINT) == ""
    clock.now += 11
    assert await known.of("shop", FINGERPRINT) == OWN
    await known.close()


async def test_a_list_that_does_not_come_is_not_waited_for_for_long() -> None:
    source, clock = Source(adapted()), Clock()
    known = AdaptedCombiners(source, clock)
    assert await known.of("shop", FINGERPRINT) == OWN
    held = asyncio.Event()

    async def usable(*, timeout: float) -> list[Combiner]:
        await held.wait()
        return []

    source.usable = usable  # type: ignore[method-assign]
    clock.now += 11
    assert await known.of("shop", FINGERPRINT) == OWN
    held.set()
    assert await known.of("shop", FINGERPRINT) == ""
    await known.close()


async def test_while_the_combiner_service_is_away_the_last_list_holds() -> None:
    source, clock = Source(adapted()), Clock()
    source.is_away = True
    known = AdaptedCombiners(source, clock)
    assert await known.of("shop", FINGERPRINT) == ""
    source.is_away = False
    clock.now += 11
    await known.of("shop", FINGERPRINT)
    await settle()
    source.is_away = True
    clock.now += 11
    assert await known.of("shop", FINGERPRINT) == OWN
    await settle()
    assert await known.of("shop", FINGERPRINT) == OWN
    await known.close()


def request(**fields: Any) -> SearchRequest:
    turn = Turn(reference=Reference(item_id="item-1"), text="in red")
    return SearchRequest(parent="catalogs/shop", turns=[turn], **fields)


@pytest.mark.service
async def test_a_search_takes_it_unless_it_names_another(stack: Stack) -> None:
    stack.combiner.adapted = [adapted()]
    answer = await stack.search.Search(request())
    assert answer.explanation.combiner == OWN == stack.combiner.calls[-1].combiner
    named = await stack.search.Search(request(combiner=DEFAULT_COMBINER))
    assert named.explanation.combiner == DEFAULT_COMBINER == stack.combiner.calls[-1].combiner


@pytest.mark.service
async def test_one_that_was_taken_away_gives_way_to_the_default(stack: Stack) -> None:
    stack.combiner.adapted = [adapted()]
    assert (await stack.search.Search(request())).explanation.combiner == OWN
    stack.combiner.adapted = []
    assert (await stack.search.Search(request())).explanation.combiner == DEFAULT_COMBINER
    assert (await stack.search.Search(request())).explanation.combiner == DEFAULT_COMBINER
    assert [call.combiner for call in stack.combiner.calls[-2:]] == [DEFAULT_COMBINER, DEFAULT_COMBINER]
    with pytest.raises(grpc.aio.AioRpcError, match="no combiner"):
        await stack.search.Search(request(combiner=OWN))


@pytest.mark.service
async def test_the_search_service_says_which_catalogs_have_one(stack: Stack) -> None:
    assert not (await stack.search.GetSearchInfo(GetSearchInfoRequest())).catalog_combiners
    stack.combiner.adapted = [adapted(), adapted("combiner/red", "red", "clip-other")]
    info = await stack.search.GetSearchInfo(GetSearchInfoRequest())
    assert dict(info.catalog_combiners) == {"shop": OWN}
    read = SearchInfo.read(info)
    assert [read.default_combiner_of(name) for name in ("shop", "red")] == [OWN, DEFAULT_COMBINER]


@pytest.mark.service
async def test_further_pages_are_of_the_combiner_of_the_first(stack: Stack) -> None:
    stack.combiner.adapted = [adapted()]
    asked = request()
    answer = await stack.search.Search(request(page_size=1))
    for _ in range(2):
        # Each token says it, so that the page is the same where another replica has no such list.
        asked.page_token = answer.next_page_token
        assert parse_search(asked, SearchSettings()).adapted == OWN
        asked.page_size = 1
        answer = await stack.search.Search(asked)
        assert answer.explanation.combiner == OWN
    # A ranking that began before there was such a combiner goes on as it was.
    digest = query_digest(request())
    begun = replace(PageToken.decode(asked.page_token, digest), cursor="1")
    answer = await stack.search.Search(request(page_token=begun.encode(digest)))
    assert answer.explanation.combiner == DEFAULT_COMBINER
