"""A program with data frames of pandas and polars, run by a test where both are installed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from PIL import Image

import cir

SERVER, IMAGES = os.environ["CIR_TEST_SERVER"], os.environ["CIR_TEST_IMAGES"]
BIG = 2**53 + 1
MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)
columns: dict[str, Any] = {
    "sku": ["a", "b", "c"],
    "image": [f"{IMAGES}/red-dress.jpg", f"{IMAGES}/blue-hat.jpg", f"{IMAGES}/red-hat.jpg"],
    "price": [1.5, None, 2.0],
    "number": [BIG, 2, 3],
    "when": [MOMENT, None, MOMENT],
    "colour": ["red", None, "red"],
    "tags": [["x", "y"], ["z"], None],
}
payload = {"price": 1.5, "number": BIG, "when": MOMENT, "colour": "red", "tags": ["x", "y"]}
kinds = {"price": "float", "number": "integer", "when": "datetime", "colour": "keyword", "tags": "keyword"}
arrow = pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")
indexed = pd.DataFrame(columns).set_index("sku")
categories = pd.DataFrame(columns).astype({"colour": "category"})
for frame in (
    pd.DataFrame(columns),
    arrow,
    indexed,
    categories,
    pl.DataFrame(columns),
    pl.LazyFrame(columns),
):
    items = cir.FrameItems(frame, id="sku", image="image")
    assert items.schema == kinds, (type(frame), items.schema)
    first, second, third = items
    assert (first.id, first.content, first.payload) == ("a", columns["image"][0], payload), first
    assert second.payload == {"number": 2, "tags": ["z"]}, second
    assert third.payload == {"price": 2.0, "number": 3, "when": MOMENT, "colour": "red"}, third

# What Arrow knows no type for is looked at one by one.
objects = pd.DataFrame({"id": ["a", "b"], "photo": [np.zeros((4, 4, 3), np.uint8), Image.new("RGB", (4, 4))]})
assert [type(item.content).__name__ for item in cir.FrameItems(objects, image="photo")] == [
    "ndarray",
    "Image",
]
refused: list[tuple[Any, str]] = [
    (pd.DataFrame({"id": ["a", "b"], "x": [1, "a"]}), "column 'x' is keyword because it holds"),
    (pd.DataFrame({"id": ["a", "b"], "x": [1, {"a": 1}]}), "row 1: column 'x' holds an object"),
    (pd.DataFrame({"id": ["a", "b"], "x": [0.0, float("inf")]}), "row 1: column 'x' holds inf"),
    (pd.DataFrame({"id": ["a"], "x": pd.PeriodIndex(["2024-01"], freq="M")}), "row 0: column 'x'"),
    (pd.DataFrame({"id": ["a"], 3: [1]}), "the name of column 3 is no text"),
    (pd.DataFrame({"id": ["a", "b"], "x": [Decimal("1.5"), "a"]}), "column 'x' is keyword because"),
    (pl.DataFrame({"id": ["a"], "x": [b"a"]}), "row 0: column 'x' holds a value of the type"),
    (
        pl.DataFrame({"id": ["a"], "x": pl.Series([object()], dtype=pl.Object)}),
        "row 0: column 'x' holds a value of type",
    ),
]
for frame, word in refused:
    try:
        cir.FrameItems(frame)
    except cir.InvalidArgument as error:
        if word not in error.message:
            raise
    else:
        raise AssertionError(word)

with cir.Client(SERVER) as client:
    items = cir.FrameItems(pd.DataFrame(columns), id="sku", image="image")
    client.upload("frames", items, schema=items.schema)
    answer = client.search("frames", text="a red dress", where={"colour": "red"})
    found, same = answer.to_pandas(), answer.to_polars()
    assert found["id"].tolist() == same["id"].to_list() == [result.id for result in answer]
    assert dict(zip(found["id"], found["number"], strict=True))["a"] == BIG
    assert same.filter(pl.col("id") == "a")["when"].to_list() == [MOMENT]
    everything = cir.to_pandas(client.all_items("frames"))
    again = cir.FrameItems(everything, image="image", fields=list(kinds))
    assert [item.payload for item in again] == [item.payload for item in items]
    client.delete_catalog("frames")
print("frames", pd.__version__, pl.__version__)
