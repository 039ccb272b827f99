"""A model server on 127.0.0.1, standing in for the one AWS's XGBoost image starts (nginx, gunicorn, Flask).

It keeps the container contract of "Custom Inference Code with Hosting Services" (SageMaker Developer Guide):
`GET /ping`, `POST /invocations`, and `model_fn`, `input_fn`, `predict_fn`, `output_fn` of the program that
SAGEMAKER_PROGRAM names, imported from the model's own `code/` directory and called as sagemaker-containers'
transformer calls them (text bodies of JSON and CSV arrive as `str`, `output_fn` answers `(body, type)`).

How it differs from AWS's, on purpose:
- one process that loads the model once, with a thread for each core, not a gunicorn process for each core;
- a bounded queue, and 503 with Retry-After when it is full; AWS's leaves what waits to the kernel;
- a request's time-out answers 503 but cannot end the model's code: docs/decisions/0090 says what follows;
- the body limit is enforced here (413); in AWS, InvokeEndpoint refuses such a body before the container;
- an error that carries `.status` answers with it and with its text as `{"error": …}`; AWS's server answers 500 to
  whatever these functions raise (docs/decisions/0054 says how our models get their status through there too);
- `/ping` is healthy only while the model predicts; AWS's says 200 as soon as the process runs.

Only the standard library is imported, and neither this package nor the directory it was started from can be imported
by the model: one that forgot to ship a module fails here as it would there.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    sys.path.insert(0, str(Path(__file__).parents[1]))

from local.serving.limits import CONNECTIONS, QUEUE, WORKERS, LimitError, Limits
from local.serving.model import LoadError, load
from local.serving.server import Server

__all__ = ["CONNECTIONS", "QUEUE", "WORKERS", "main"]


def serve(server: Server) -> None:
    """Serve until SIGTERM or SIGINT and drain; a second signal ends at once. Exits with 1 if requests were lost."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    unanswered = server.run()
    if unanswered:
        print(f"stopped; requests left without an answer: {unanswered}.", file=sys.stderr)
    if server.running:
        # Python would end under threads that are still in the model's native code, and may crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(unanswered > 0))


def _stop_with(parent: TextIO) -> None:
    """A parent that dies, however it dies, closes its end of the pipe; a model that is still loading ends at once."""
    parent.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one model directory: `python -m local.server --model DIR [--port N] [--probe request.json]`."""
    parser = argparse.ArgumentParser(prog="python -m local.server", description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="an unpacked model.tar.gz")
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    parser.add_argument("--port", type=int, default=port, help="0 takes a free port and prints it")
    parser.add_argument("--probe", type=Path, help="a JSON request that /ping predicts")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args(argv)
    if arguments.stop_with_parent:
        threading.Thread(target=_stop_with, args=(sys.stdin,), daemon=True).start()
    # As AWS's image does: many small predictions lose more by switching threads than they gain.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        limits = Limits.of(os.environ)
        probe = arguments.probe.read_bytes() if arguments.probe else None
        model = load(arguments.model.resolve(), os.environ)
        server = Server(model, port=arguments.port, probe=probe, limits=limits)
    except (LimitError, LoadError) as error:
        sys.exit(str(error))
    except OSError as error:
        where = arguments.probe if error.filename else f"127.0.0.1:{arguments.port}"
        sys.exit(f"{where}: {error.strerror}. Name another file, or another --port (0 takes a free one).")
    serve(server)


if __name__ == "__main__":
    del sys.path[0]
    for _name in [name for name in sys.modules if name.partition(".")[0] == "local"]:
        del sys.modules[_name]
    main()
