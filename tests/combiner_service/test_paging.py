import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2
from combiner_service.combiner import CombinerInfo
from combiner_service.servicer import cut_page
from service_runtime.errors import ServiceError


def infos(*names: str) -> list[CombinerInfo]:
    return [CombinerInfo(name, "", takes_text_weight=True) for name in names]


ALL = infos("sum", "slerp", "image", "text", *(f"combiner/{index:04}" for index in range(1500)))


@given(st.integers(0, 1200), st.integers(0, len(ALL)))
def test_pages_put_together_are_the_whole(size: int, count: int) -> None:
    seen, token, pages = [], "", 0
    while True:
        shown, token = cut_page(ALL[:count], size, token)
        seen += shown
        pages += 1
        if not token:
            break
    assert seen == ALL[:count]
    assert pages == max(1, -(-count // min(size or 100, 1000)))


def test_a_checkpoint_that_went_away_between_pages_does_not_disturb() -> None:
    before = infos("sum", "combiner/a", "combiner/c", "combiner/e")
    _, token = cut_page(before, 3, "")
    after = infos("sum", "combiner/a", "combiner/b", "combiner/d", "combiner/e")
    assert [info.name for info in cut_page(after, 3, token)[0]] == ["combiner/d", "combiner/e"]


@given(st.text(max_size=40))
def test_other_tokens_are_refused(token: str) -> None:
    if token == "":
        assert cut_page(ALL, 1, token)[0] == ALL[:1]
        return
    with pytest.raises(ServiceError) as refused:
        cut_page(ALL, 1, token)
    assert refused.value.reason == errors_pb2.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("token", ["YWZ0ZXI6bm93aGVyZQ==", "YWZ0ZXI6", "////"])
def test_tokens_of_the_right_form_with_another_content_are_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="damaged") as refused:
        cut_page(ALL, 1, token)
    assert refused.value.reason == errors_pb2.PAGE_TOKEN_INVALID


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ServiceError, match="page_size is -1") as refused:
        cut_page(ALL, -1, "")
    assert refused.value.reason == errors_pb2.OUT_OF_RANGE
