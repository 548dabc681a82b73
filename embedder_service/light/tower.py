"""One tower on a CPU, by OpenVINO: read, checked, and compiled in float32, bfloat16 or int8."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_service.batching.jobs import Features
from embedder_service.host import multiplies_bfloat16
from embedder_service.light.int8 import Linear, input_ranges, quantize
from embedder_service.light.mapped import MappedWeights, map_weights
from service_runtime.errors import StartupError
from service_runtime.openvino_core import core, halve_weights, openvino, precision
from service_runtime.openvino_core import opset13 as ops

_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
# Values of an input row that share one scale where the rest is computed in bfloat16: fewer scales to apply.
_INT8_GROUP = 256


class Tower:
    """A tower as it was read, to be compiled. `length` is the number of tokens that it takes, 0 for any.

    `vocabulary` is the number of tokens that its embedding has; 0 in the image tower. `token_width` is the
    length of a word embedding; 0 where none can be put among the tokens.

    One of an `is_export` by others may take one row at a time, and may give features of length 1: then rows
    are computed one by one, and the last step is left out. With `takes_words` word embeddings are taken where
    the graph allows it.

    Raises:
        StartupError: it cannot be read, or takes or gives something else than a tower does.
    """

    def __init__(
        self,
        path: Path,
        *,
        takes: str,
        dimension: int,
        image_size: int = 0,
        context: int = 0,
        is_export: bool = False,
        takes_words: bool = False,
    ) -> None:
        self.path, self._is_export, self._is_image = path, is_export, bool(image_size)
        model = self._read()
        self.length = self.vocabulary = self.token_width = 0
        if len(model.inputs) != 1 or not model.outputs:
            raise StartupError(f"{path} has {len(model.inputs)} inputs; expected one, of {takes}")
        shape = model.input(0).partial_shape
        self._is_single = is_export and shape.rank.is_static and bool(len(shape)) and _number(shape[0]) == 1
        if shape.rank.is_dynamic or not len(shape) or (shape[0].is_static and not self._is_single):
            raise StartupError(
                f"{path} was exported for a fixed batch ({shape}); export it with a dynamic one, such as by "
                "cir models export"
            )
        if image_size:
            wanted = [3, image_size, image_size]
            if len(shape) != 4 or [_number(part) for part in list(shape)[1:]] != wanted:
                raise StartupError(f"{path} takes {shape}; expected (batch, 3, {image_size}, {image_size})")
        elif len(shape) != 2:
            raise StartupError(f"{path} takes {shape}; expected (batch, tokens)")
        else:
            self.length = _number(shape[1])
            table = _token_table(model)
            if table is not None:
                self.vocabulary = _number(table.input_value(0).partial_shape[0])
                # A tower for one length alone may read a text elsewhere than at its end.
                if takes_words and not self.length:
                    self.token_width = _number(table.input_value(0).partial_shape[1])
        # Shapes are followed through the whole tower before anything runs: the runtime itself does not look.
        row = [3, image_size, image_size] if image_size else [context]
        rows = 1 if self._is_single else 2
        self.dtype = np.dtype(model.input(0).element_type.to_dtype())
        if self.dtype not in ((np.float32,) if image_size else (np.int32, np.int64)):
            raise StartupError(
                f"{path} takes {takes} as {self.dtype}; export it with float32 pixels, and whole numbers "
                "as tokens"
            )
        try:
            model.reshape([rows, *row])
            features = model.output(0).partial_shape
        except RuntimeError as error:
            raise StartupError(
                f"{path} cannot take rows of shape {tuple(row)}: {_line(error)}; the document of the folder "
                "is of another model: export the model again"
            ) from error
        if features.rank.is_dynamic or [_number(part) for part in features] != [rows, dimension]:
            raise StartupError(
                f"{path} gives features of shape {features} for {rows} rows; expected ({rows}, {dimension}), "
                "as the other tower: export both from one model"
            )

    def input_ranges(self, rows: Iterable[Sequence[npt.NDArray[Any]]]) -> list[Features]:
        """Return the largest absolute value that each input of each linear layer takes for some rows.

        A row is what `Compiled` takes for one. They are for `prepare` in int8.

        Raises:
            StartupError: this CPU does not compute in int8, the file cannot be read, or the tower does not
                run.
        """
        try:
            return input_ranges(self._widened(_settings("int8")), rows)
        except RuntimeError as error:
            raise StartupError(f"{self.path} does not run: {_line(error)}; export the model again") from error

    def _widened(self, settings: dict[str, Any]) -> Any:
        """Return the tower with the inputs that `Compiled` has, and weights as they are held."""
        model = self._read()
        if self.token_width:
            _take_words(model)
        if settings["INFERENCE_PRECISION_HINT"] != precision("float32")["INFERENCE_PRECISION_HINT"]:
            halve_weights(model)
        if self._is_image:
            _take_bytes(model)
        return model

    def _read(self) -> Any:
        model = _read(self.path)
        if self._is_export:
            without_normalisation(model)
        return model

    def prepare(
        self,
        dtype: str,
        linear: Linear = Linear.ALL,
        ranges: Sequence[Features] | None = None,
        *,
        maps: bool = False,
    ) -> Prepared:
        """Return the tower as it is compiled for a dtype; `ranges` of `input_ranges` make int8 closer.

        With `maps` weights stay in the file where they can (see mapped.py).

        Raises:
            StartupError: this CPU does not compute in the dtype, or the file cannot be read.
        """
        settings = _settings(dtype)
        model = self._widened(settings)
        if dtype == "int8":
            quantize(model, linear, ranges)
        given = np.dtype(np.uint8) if self._is_image else self.dtype
        # In float32 some are multiplied with as they lie there.
        maps = (
            maps and settings["INFERENCE_PRECISION_HINT"] == precision("bfloat16")["INFERENCE_PRECISION_HINT"]
        )
        mapped = map_weights(model, self.path) if maps else None
        return Prepared(self.path, model, settings, given, is_single=self._is_single, mapped=mapped)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A tower to be compiled, more than once where passes of several kinds share its weights.

    `dtype` is that of pixels or tokens.
    """

    path: Path
    model: Any
    settings: dict[str, Any]
    dtype: np.dtype[Any]
    is_single: bool
    mapped: MappedWeights | None = None

    def compile(self, *, threads: int, streams: int = 1) -> Compiled:
        """Return the tower compiled for passes of `threads` threads, `streams` of them at a time.

        Raises:
            StartupError: the runtime cannot compile the tower.
        """
        settings = self.settings | {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads * streams}
        try:
            compiled = core.compile_model(self.model, "CPU", settings)
        except RuntimeError as error:
            raise StartupError(f"{self.path} cannot be compiled: {_line(error)}") from error
        return Compiled(compiled, streams, self.dtype, is_single=self.is_single, mapped=self.mapped)


class Compiled:
    """A compiled tower. As many threads as it has streams run it at a time; others wait."""

    def __init__(
        self,
        model: Any,
        streams: int,
        dtype: np.dtype[Any],
        *,
        is_single: bool,
        mapped: MappedWeights | None = None,
    ) -> None:
        self._model, self._dtype, self._is_single, self._mapped = model, dtype, is_single, mapped
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._idle.put(model.create_infer_request())

    def __call__(self, rows: npt.NDArray[Any], *others: npt.NDArray[Any]) -> Features:
        """Return float32 (n, dimension) of pixels or tokens.

        After pixels, uint8 (n, size, size, 3), come mean and standard deviation, (1, 3, 1, 1); after the
        tokens of a tower with a `token_width` come places and embeddings of words (see `_take_words`).
        """
        first = np.ascontiguousarray(rows, self._dtype)
        parts = [first[place : place + 1] for place in range(len(first))] if self._is_single else [first]
        request = self._idle.get()
        try:
            # A request holds its answer until the next one.
            answers = [
                np.array(request.infer([part, *others], share_inputs=True)[0], np.float32) for part in parts
            ]
        finally:
            self._idle.put(request)
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def release_memory(self) -> None:
        """Give back what passes computed in; the next one takes it again. While none runs."""
        self._model.release_memory()
        if self._mapped is not None:
            self._mapped.release()


def _settings(dtype: str) -> dict[str, Any]:
    """Return how a tower is compiled for a dtype.

    Raises:
        StartupError: this CPU does not compute in it.
    """
    capability = _CAPABILITIES.get(dtype)
    if capability and capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise StartupError(f"this CPU does not compute in {dtype} by OpenVINO; use dtype auto or float32")
    settings = precision(dtype)
    if dtype == "int8" and multiplies_bfloat16():
        # For what is not quantised.
        settings |= precision("bfloat16") | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP}
    return settings


def _read(path: Path) -> Any:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise StartupError(
            f"{path} cannot be read by OpenVINO: {_line(error)}; export the model again"
        ) from error


def _line(error: Exception) -> str:
    """Return the line of an error that says something: OpenVINO's begin with places in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0][:300]


def _number(part: Any) -> int:
    """Return a dimension, 0 for a dynamic one."""
    return 0 if part.is_dynamic else int(part.get_length())


def _token_table(model: Any) -> Any | None:
    """Return the node that looks the tokens up in the largest table; None where there is none."""
    found: list[Any] = []
    waiting = [target.get_node() for target in model.input(0).get_target_inputs()]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Gather":
            shape = node.input_value(0).partial_shape
            if len(shape) == 2 and shape[0].is_static and shape[1].is_static:
                found.append(node)
        elif node.get_type_name() == "Convert":
            waiting += [target.get_node() for target in node.output(0).get_target_inputs()]
    return max(found, key=lambda node: _number(node.input_value(0).partial_shape[0]), default=None)


def _take_words(model: Any) -> None:
    """Let a text tower take word embeddings, (n, 1, width), where the places, (n, length, 1), are true.

    Nothing is exported for it: the graph is widened where the tokens become embeddings.
    """
    table = _token_table(model)
    assert table is not None  # noqa: S101  # `token_width` is that of the table
    width = _number(table.input_value(0).partial_shape[1])
    readers = list(table.output(0).get_target_inputs())
    mask = ops.parameter([-1, -1, 1], np.bool_, name="places")
    words = ops.parameter([-1, 1, width], np.float32, name="words")
    typed = ops.convert(words, table.get_output_element_type(0).to_string())
    chosen = ops.select(mask, typed, table.output(0))
    for reader in readers:
        reader.replace_source_output(chosen.output(0))
    model.add_parameters([mask, words])
    model.validate_nodes_and_infer_types()


def _take_bytes(model: Any) -> None:
    """Let an image tower take uint8 (n, size, size, 3) and, as further inputs, mean and standard deviation.

    The order of operations is that of torchvision's ToTensor and Normalize.
    """
    pixels = model.get_parameters()[0]
    batch, channels, height, width = pixels.partial_shape
    given = ops.parameter(openvino.PartialShape([batch, height, width, channels]), np.uint8, name="bytes")
    mean, std = (ops.parameter([1, 3, 1, 1], np.float32, name=name) for name in ("mean", "std"))
    ordered = ops.transpose(given, ops.constant(np.array([0, 3, 1, 2])))
    values = ops.divide(ops.convert(ordered, np.float32), ops.constant(np.float32(255)))
    values = ops.divide(ops.subtract(values, mean), std)
    for reader in list(pixels.output(0).get_target_inputs()):
        reader.replace_source_output(values.output(0))
    model.remove_parameter(pixels)
    model.add_parameters([given, mean, std])
    model.validate_nodes_and_infer_types()


# Most steps from the length of features to the quotient, and from the features to the sum of their squares.
_STEPS = 8
_SUMS = ("ReduceL2", "ReduceSum")


def without_normalisation(model: Any) -> bool:
    """Leave out the last step of a tower that divides features by their length; return true where it did.

    Features are raw here: a Combiner reads their length.
    """
    result = model.get_results()[0]
    last = result.input_value(0).get_node()
    if last.get_type_name() != "Divide":
        return False
    raw = last.input_value(0)
    lengths = [node for node in _above(last.input_value(1)) if node.get_type_name() in _SUMS]
    summed = {node.get_friendly_name() for each in lengths for node in _above(each.input_value(0))}
    if raw.get_node().get_friendly_name() not in summed:
        return False
    result.input(0).replace_source_output(raw)
    return True


def _above(output: Any) -> Iterator[Any]:
    """Yield the nodes that a value is made from, nearest first, a few steps up."""
    level = [output.get_node()]
    for _ in range(_STEPS):
        yield from level
        inputs = [node.input_value(place) for node in level for place in range(node.get_input_size())]
        level = [value.get_node() for value in inputs]
