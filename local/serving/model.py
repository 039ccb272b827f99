"""A model's own program: imported from its `code/` directory, loaded once, and asked for one prediction a request."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from local.serving.messages import JSON, Answer, refusal

CONTAINER_MODEL = "/opt/ml/model"
FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn")
TEXT_TYPES = (JSON, "text/csv")
CLIENT_ERRORS = frozenset(status for status in HTTPStatus if 400 <= status < 500)


class LoadError(Exception):
    """A model directory that cannot be served: the message names the file and the remedy."""


class Model:
    """A loaded model behind the three functions that answer a request."""

    def __init__(self, program: Any, loaded: Any, default_accept: str) -> None:
        self._loaded = loaded
        self._input: Callable[[str | bytes, str], Any] = program.input_fn
        self._predict: Callable[[Any, Any], Any] = program.predict_fn
        self._output: Callable[[Any, str], tuple[str | bytes, str]] = program.output_fn
        self._default_accept = default_accept

    def predict(self, body: bytes, content_type: str, accept: str) -> Answer:
        """The answer to one request, whatever the model's code raises: 4xx if that says so by `.status`, else 500."""
        try:
            # sagemaker-containers decodes exactly these types (Request.content); a charset leaves bytes.
            content = body.decode(errors="replace") if content_type in TEXT_TYPES else body
            accept = self._default_accept if accept in {"", "*/*"} else accept
            prediction = self._predict(self._input(content, content_type), self._loaded)
            result, result_type = self._output(prediction, accept)
            encoded = result.encode() if isinstance(result, str) else bytes(memoryview(result))
            result_type.encode("latin-1")  # as the header that it becomes
        except BaseException as error:  # noqa: BLE001 — the model's code may raise anything, and its worker must live on
            status = getattr(error, "status", None)
            if isinstance(status, int) and status in CLIENT_ERRORS:
                return refusal(HTTPStatus(status), str(error))
            traceback.print_exc()
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        return Answer(HTTPStatus.OK, encoded, result_type)


def load(directory: Path, environ: Mapping[str, str]) -> Model:
    """Import the model's program and call its `model_fn`; `LoadError` if anything it needs is missing.

    `directory` is an unpacked model.tar.gz. Paths below /opt/ml/model in `environ` mean paths below it.
    """
    submitted = environ.get("SAGEMAKER_SUBMIT_DIRECTORY", f"{CONTAINER_MODEL}/code")
    if not f"{submitted}/".startswith(f"{CONTAINER_MODEL}/"):
        raise LoadError(
            f"SAGEMAKER_SUBMIT_DIRECTORY = {submitted}: only code inside the model ({CONTAINER_MODEL}/…) is "
            f"served here. Ship it in model.tar.gz and set {CONTAINER_MODEL}/code."
        )
    code = directory / submitted.removeprefix(CONTAINER_MODEL).strip("/")
    program = code / environ.get("SAGEMAKER_PROGRAM", "inference.py")
    if not program.is_file():
        raise LoadError(f"{program}: no such file. A model directory ships its own code/inference.py.")
    sys.path.insert(0, str(code))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(program.stem)
    except Exception as error:
        raise LoadError(f"{program}: cannot be imported: {type(error).__name__}: {error}") from error
    if missing := [name for name in FUNCTIONS if not callable(getattr(module, name, None))]:
        raise LoadError(
            f"{program}: does not define {', '.join(missing)}. A served program defines all four."
        )
    try:
        loaded = module.model_fn(str(directory))
    except Exception as error:
        raise LoadError(f"{directory}: model_fn failed: {type(error).__name__}: {error}") from error
    return Model(module, loaded, environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", JSON))
