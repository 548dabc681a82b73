"""Explanations of queries, on garments: are they true, stable, and do they grow with what the text names?

    python -m benchmarks.explanations [--size 4000] [--catalog FOLDER] [--json FILE]

Truth: of each hard negative, which misses a right item by one attribute, the part of the query (what the text
gave, what the image gave) that prefers the right item more must be the one that asked for that attribute.
Stability: the same wish in four phrasings on three images; the intraclass correlation is the share of the
variance that lies between wishes. Sense: of three wishes, each of which names an attribute more, the share of
the text grows. The definition that is served stands beside one that needs no pass, and beside lambda. Then
what a text weight does, and what becomes of dialogues that begin with a text.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import combiner_service
from cir.images.decode import Decoder
from combiner_service.builtin import BUILTIN
from combiner_service.combiner import Combiner, CombinerInfo, Float32, Float64, unit_rows
from combiner_service.network_loading import load_network
from embedder_service.loading import load_served
from embedder_service.settings import EmbedderSettings
from garments.catalog import make_catalog
from garments.items import Item, catalog_items
from garments.language import caption, phrase
from garments.queries import dialogues, triplets
from garments.vocabulary import (
    BASE,
    VALUES,
    Attributes,
    Edit,
    SplitName,
    all_changed,
    matches,
    noun_phrase,
)
from search_service.explanations import LITTLE, NEUTRAL_TEXT
from search_service.query import Pair, TurnFeatures, TurnKind, fold

SEED = 7
COMBINER = Path(combiner_service.__file__).parent / "shipped" / "garments.safetensors"
#: Texts that ask for nothing, in words that the shipped model has learnt.
NOTHING = ("the same", "like this", "make it nicer", "this one")
DEFINITIONS = ("leave one out", "without a pass")
_BATCH = 64
_PHRASINGS, _IMAGES = 4, 3


class Shop:
    """A catalog of drawn garments in memory, with the features of the shipped CLIP."""

    def __init__(self, items: Sequence[Item], folder: Path) -> None:
        arguments = ["--architecture", "cir-small", "--device", "cpu", "--dtype", "float32"]
        self._model = load_served(EmbedderSettings.load(arguments))
        self.items = items
        self.row = {item.id: number for number, item in enumerate(items)}
        self.images = np.concatenate(
            [self._embedded(folder, items[at : at + _BATCH]) for at in range(0, len(items), _BATCH)]
        )
        self.gallery = unit_rows(self.images)
        mean = self.images.mean(axis=0, dtype=np.float64)
        self.length = float(np.linalg.norm(self.images, axis=1).mean())
        self.mean = (mean * (self.length / np.linalg.norm(mean))).astype(np.float32)
        self._texts: dict[str, Float32] = {}

    def _embedded(self, folder: Path, items: Sequence[Item]) -> Float32:
        decode = Decoder()
        prepare = self._model.preprocessor
        pixels = np.stack([prepare(decode((folder / item.image).read_bytes())) for item in items])
        return np.array(self._model.model.encode_images(pixels), np.float32)

    def texts(self, said: Sequence[str]) -> Float32:
        """Return raw features (n, d) of texts."""
        new = [text for text in dict.fromkeys(said) if text not in self._texts]
        for at in range(0, len(new), _BATCH):
            part = new[at : at + _BATCH]
            self._texts |= dict(zip(part, np.array(self._model.model.encode_texts(part)), strict=True))
        return np.stack([self._texts[text] for text in said]).astype(np.float32)

    def rows(self, items: Sequence[Item]) -> NDArray[np.int64]:
        """Return the places of items."""
        return np.array([self.row[item.id] for item in items], np.int64)


def drawn(size: int, seed: int, folder: Path | None = None) -> Shop:
    """Draw a shop, or read the images of one that was drawn; small shops have small images."""
    items = catalog_items(size, seed)
    if folder is not None:
        return Shop(items, folder)
    with tempfile.TemporaryDirectory() as made:
        make_catalog(Path(made) / "shop", size=size, seed=seed, image_size=(144, 192))
        return Shop(items, Path(made) / "shop")


def shipped_network() -> Combiner:
    """Return the shipped Combiner."""
    return load_network(COMBINER, CombinerInfo("combiner/garments", "", takes_text_weight=True))


@dataclass(frozen=True, slots=True)
class Parts:
    """Unit queries (n, d): as they are, without their text, without their image."""

    whole: Float64
    without_text: Float64
    without_image: Float64

    @property
    def text_share(self) -> Float64:
        """The text's share of all that was moved, (n,)."""
        text, image = (
            1 - (self.whole * each).sum(axis=1) for each in (self.without_text, self.without_image)
        )
        share: Float64 = text / (text + image + 1e-12)
        return share


def parts(shop: Shop, combiner: Combiner, definition: str, images: Float32, texts: Float32) -> Parts:
    """Take the text and the image away, as a definition says."""

    def combined(image: Float32, text: Float32) -> Float64:
        return combiner.combine(np.ascontiguousarray(image), text).query_vectors.astype(np.float64)

    if definition == "without a pass":
        return Parts(combined(images, texts), unit_rows(images), unit_rows(texts))
    neutral = np.repeat(shop.texts([NEUTRAL_TEXT]), len(images), axis=0)
    mean = np.repeat(shop.mean[None], len(images), axis=0)
    return Parts(combined(images, texts), combined(images, neutral), combined(mean, texts))


def truth(shop: Shop, combiner: Combiner, definition: str, count: int) -> dict[str, float]:
    """Return the share of hard negatives that are blamed on the right part, by that part, and for lambda."""
    asked = list(triplets(tuple(shop.items), "test", count, SEED))
    images, texts = (
        shop.images[shop.rows([one.reference for one in asked])],
        shop.texts([one.text for one in asked]),
    )
    found = parts(shop, combiner, definition, images, texts)
    gave_text, gave_image = found.whole - found.without_text, found.whole - found.without_image
    right: dict[str, list[bool]] = {"text": [], "image": []}
    for number, one in enumerate(asked):
        wanted = all_changed(one.reference.attributes, one.edits)
        target = shop.gallery[shop.rows(one.targets)].mean(axis=0)
        for negative in one.hard_negatives:
            missed = [name for name in wanted if negative.attributes.get(name) != wanted[name]]
            if len(missed) != 1:
                continue
            side = "text" if missed[0] in {edit.attribute for edit in one.edits} else "image"
            lost = target - shop.gallery[shop.row[negative.id]]
            blamed = "text" if lost @ gave_text[number] > lost @ gave_image[number] else "image"
            right[side].append(blamed == side)
    return {side: float(np.mean(outcomes)) for side, outcomes in right.items()}


def wishes(shop: Shop, count: int) -> list[tuple[list[Item], list[str]]]:
    """Return images and phrasings of `count` wishes, of one or two attributes; none is fulfilled already."""
    rng = random.Random(SEED)
    made: list[tuple[list[Item], list[str]]] = []
    while len(made) < count:
        images = rng.sample(list(shop.items), _IMAGES)
        edits = []
        for name in rng.sample(BASE, rng.choice((1, 2))):
            new = [value for value in VALUES[name] if all(item.attributes[name] != value for item in images)]
            edits.append(Edit(name, rng.choice(new)))
        edits.sort(key=lambda edit: edit.attribute != "kind")
        splits: tuple[SplitName, ...] = ("train", "val", "test")
        said = {phrase(edits, images[0].attributes, rng.choice(splits), rng) for _ in range(60)}
        if len(said) >= _PHRASINGS:
            made.append((images, rng.sample(sorted(said), _PHRASINGS)))
    return made


def stability(shop: Shop, combiner: Combiner, definition: str, count: int) -> float:
    """Return the intraclass correlation of the text's share, or of lambda, over phrasings and images."""
    asked = [(item, text) for images, said in wishes(shop, count) for item in images for text in said]
    images, texts = (
        shop.images[shop.rows([item for item, _ in asked])],
        shop.texts([text for _, text in asked]),
    )
    if definition == "lambda":
        values = combiner.combine(images, texts).text_weights.astype(np.float64)
    else:
        values = parts(shop, combiner, definition, images, texts).text_share
    by_wish = values.reshape(count, -1)
    size = by_wish.shape[1]
    between, within = size * by_wish.mean(axis=1).var(ddof=1), by_wish.var(axis=1, ddof=1).mean()
    return float((between - within) / (between + (size - 1) * within + 1e-30))


def sense(shop: Shop, combiner: Combiner, definition: str, count: int) -> dict[str, float]:
    """Return how often the text's share grows with an attribute more, and the shares of several texts."""
    rng = random.Random(SEED)
    pairs: list[tuple[Item, Attributes]] = []
    while len(pairs) < count:
        item, other = rng.sample(list(shop.items), 2)
        if all(item.attributes[name] != other.attributes[name] for name in BASE):
            pairs.append((item, other.attributes))
    images = shop.images[shop.rows([item for item, _ in pairs])]

    def shares(said: Sequence[str]) -> Float64:
        return parts(shop, combiner, definition, images, shop.texts(said)).text_share

    one = shares([f"in {wanted['colour']}" for _, wanted in pairs])
    two, three = (
        shares(
            [
                f"{noun_phrase(wanted['kind'], [wanted[name] for name in names])} instead"
                for _, wanted in pairs
            ]
        )
        for names in (("colour",), ("colour", "pattern"))
    )
    nothing = np.concatenate([shares([text] * count) for text in NOTHING])
    return {
        "grows": float(np.mean([*(two > one), *(three > two)])),
        "one": float(one.mean()),
        "two": float(two.mean()),
        "three": float(three.mean()),
        "nothing": float(nothing.mean()),
        "nothing_is_little": float((nothing < LITTLE).mean()),
        "wish_is_little": float((np.concatenate([one, two, three]) < LITTLE).mean()),
    }


def weighed(shop: Shop, combiner: Combiner, weight: float | None, count: int) -> dict[str, float]:
    """Return recall at 1 with a text weight, and how much of the first ten kept and changed as asked."""
    asked = list(triplets(tuple(shop.items), "test", count, SEED))
    images, texts = (
        shop.images[shop.rows([one.reference for one in asked])],
        shop.texts([one.text for one in asked]),
    )
    scores = combiner.combine(images, texts, weight).query_vectors @ shop.gallery.T
    hits, kept, changed = [], [], []
    for number, one in enumerate(asked):
        scores[number, shop.row[one.reference.id]] = -2
        first = [shop.items[at] for at in np.argsort(-scores[number])[:10]]
        hits.append(first[0] in one.targets)
        named = {edit.attribute: edit.value for edit in one.edits}
        wanted = all_changed(one.reference.attributes, one.edits)
        rest = {name: value for name, value in wanted.items() if name in BASE and name not in named}
        kept += [matches(item.attributes, rest) for item in first]
        changed += [matches(item.attributes, named) for item in first]
    return {"R@1": float(np.mean(hits)), "kept": float(np.mean(kept)), "changed": float(np.mean(changed))}


def third_turn(
    shop: Shop, combiner: Combiner, count: int, *, by_text: bool, image_length: float | None
) -> float:
    """Return how many dialogues find a right item among the first ten after their third turn.

    `by_text` they begin with the caption of their reference, in place of its image.
    """
    nothing = np.empty((0, shop.images.shape[1]), np.float32)
    found = []
    for talk in dialogues(tuple(shop.items), "test", count, SEED):
        start = shop.images[shop.row[talk.reference.id]]
        said = shop.texts([turn.text for turn in talk.turns[:3]])
        kinds = [TurnKind.CONTINUED] * 3
        turns = [
            TurnFeatures(kind, None, text, nothing, nothing) for kind, text in zip(kinds, said, strict=True)
        ]
        if by_text:
            start = shop.texts([caption(talk.reference.attributes)])[0]
            turns.insert(0, TurnFeatures(TurnKind.TEXT_ONLY, start, None, nothing, nothing))
        else:
            turns[0] = TurnFeatures(TurnKind.COMPOSED, start, said[0], nothing, nothing)
        scores = shop.gallery @ composed(combiner, start, turns, image_length)
        if not by_text:
            scores[shop.row[talk.reference.id]] = -2
        right = set(shop.rows(talk.turns[2].targets).tolist())
        found.append(bool(right & set(np.argsort(-scores)[:10].tolist())))
    return float(np.mean(found))


def composed(
    combiner: Combiner, start: Float32, turns: Sequence[TurnFeatures], image_length: float | None
) -> Float32:
    """Return the query of a dialogue."""
    folding = fold(start, turns, image_length=image_length)
    pair: Pair = next(folding)
    try:
        while True:
            pair = folding.send(combiner.combine(pair.image[None], pair.text[None]).query_vectors[0])
    except StopIteration as ended:
        vector: Float32 = ended.value.vector
        return vector


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=4000, help="garments in the catalog")
    parser.add_argument(
        "--catalog", type=Path, help="folder of a catalog of that size and seed 7, drawn already"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    shop = drawn(options.size, SEED, options.catalog)
    network = shipped_network()
    report: dict[str, object] = {
        "image_length": shop.length,
        "text_length": float(np.linalg.norm(shop.texts(["in red", "a striped dress"]), axis=1).mean()),
    }
    table = Table(
        "combiner",
        "definition",
        "blames the text",
        "blames the image",
        "ICC",
        "grows",
        "1 / 2 / 3 named",
        "nothing",
    )
    for combiner in (network, *(each for each in BUILTIN if each.info.takes_text_weight)):
        for definition in DEFINITIONS:
            true = truth(shop, combiner, definition, 2000)
            icc = stability(shop, combiner, definition, 300)
            grown = sense(shop, combiner, definition, 400)
            report[f"{combiner.info.name}, {definition}"] = {**true, "icc": icc, **grown}
            named = " / ".join(f"{grown[each]:.2f}" for each in ("one", "two", "three"))
            table.add_row(
                combiner.info.name,
                definition,
                *(f"{true[side]:.3f}" for side in ("text", "image")),
                f"{icc:.2f}",
                f"{grown['grows']:.3f}",
                named,
                f"{grown['nothing']:.2f}",
            )
    report["lambda, icc"] = stability(shop, network, "lambda", 300)
    table.add_row(network.info.name, "lambda", "", "", f"{report['lambda, icc']:.2f}", "", "", "")
    weights = Table("text weight", "R@1", "kept", "changed")
    for weight in (None, 0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0):
        figures = weighed(shop, network, weight, 1000)
        report[f"text weight {weight}"] = figures
        weights.add_row(str(weight), *(f"{value:.3f}" for value in figures.values()))
    begun = Table("dialogue begins with", "third turn, S@10")
    for name, by_text, length in (
        ("an image", False, None),
        ("a text, at its own length", True, None),
        ("a text, at the images' length (served)", True, shop.length),
    ):
        report[f"begins with {name}"] = third_turn(shop, network, 500, by_text=by_text, image_length=length)
        begun.add_row(name, f"{report[f'begins with {name}']:.3f}")
    for each in (table, weights, begun):
        Console(width=150).print(each)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
