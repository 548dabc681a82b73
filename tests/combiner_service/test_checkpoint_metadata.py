import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_service.checkpoint_metadata import CheckpointMetadata, from_header, to_header
from combiner_service.errors import InvalidCheckpointError
from tests.combiner_service.examples import SMALL

texts = st.text(max_size=20)
names = texts.map(lambda text: f"x-{text}")


@given(
    st.builds(
        CheckpointMetadata,
        model_fingerprint=texts,
        training_data=texts,
        protocol=texts,
        metrics=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
        epoch=st.none() | st.integers(0, 10**6),
        software_version=texts,
        extra=st.dictionaries(names, texts, max_size=3),
    )
)
def test_metadata_comes_back_from_its_header(metadata: CheckpointMetadata) -> None:
    assert from_header(to_header(metadata, SMALL), SMALL) == metadata


def test_texts_are_what_is_known_without_the_fingerprint() -> None:
    metadata = CheckpointMetadata(model_fingerprint="f", protocol="p", metrics={"r": 0.5}, epoch=0)
    assert metadata.texts() == {"protocol": "p", "metrics": '{"r": 0.5}', "epoch": "0"}


def test_a_header_without_our_key_says_nothing_of_the_model() -> None:
    header = {"format": "pt", "model_fingerprint": "somebody else's"}
    assert from_header(header, SMALL) == CheckpointMetadata(extra=header)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cir_format", "combiner/2", "this version reads 'combiner/1'"),
        ("hidden_dim", "17", "the header says hidden_dim=17, the tensors say 16"),
        ("metrics", "[1]", "not a JSON object of numbers"),
        ("metrics", '{"r": "high"}', "not a JSON object of numbers"),
        ("metrics", '{"r": NaN}', "not all finite"),
        ("metrics", "[" * 10_000, "not a JSON object of numbers"),
        ("training_data", "x" * 20_000, "at most 16384 are read"),
        ("epoch", "last", "not a whole number"),
    ],
)
def test_headers_that_cannot_be_read_are_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidCheckpointError, match=message):
        from_header(to_header(CheckpointMetadata(), SMALL) | {name: value}, SMALL)


def test_metrics_that_are_not_finite_are_not_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        to_header(CheckpointMetadata(metrics={"r": float("nan")}), SMALL)
