"""A model server on 127.0.0.1, standing in for the one AWS's XGBoost image starts (nginx, gunicorn, Flask).

It keeps the container contract of "Custom Inference Code with Hosting Services" (SageMaker Developer Guide):
`GET /ping`, `POST /invocations`, and `model_fn`, `input_fn`, `predict_fn`, `output_fn` of the program that
SAGEMAKER_PROGRAM names, imported from the model's own `code/` directory and called as sagemaker-containers'
transformer calls them (text bodies of JSON and CSV arrive as `str`, `output_fn` answers `(body, type)`).

How it differs from AWS's, on purpose:
- the model is loaded once, and up to one process for each core is forked from that one; each gunicorn process loads it;
- a bounded queue, and 503 with Retry-After when it is full; AWS's leaves what waits to the kernel;
- a request's time-out answers 503 and ends the process that predicts it, and nobody else's (docs/decisions/0090);
- the body limit is enforced here (413); in AWS, InvokeEndpoint refuses such a body before the container;
- an error that carries `.status` answers with it and with its text as `{"error": …}`; AWS's server answers 500 to
  whatever these functions raise (docs/decisions/0054 says how our models get their status through there too);
- `/ping` is healthy only while the model predicts; AWS's says 200 as soon as the process runs.

Only the standard library is imported, and neither this package nor the directory it was started from can be imported
by the model: one that forgot to ship a module fails here as it would there.
"""

import argparse
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

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
    # Whoever started this may have ignored it, and then the system would not tell how a worker ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    unanswered = server.run()
    if unanswered:
        sys.exit(f"stopped; requests left without an answer: {unanswered}.")


def _stop_with(parent: int) -> None:
    """A parent that dies, however it dies, closes its end of the pipe; a model that is still loading ends at once."""
    while os.read(parent, 4096):  # not through sys.stdin: a process forked meanwhile would find that locked
        pass
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
        threading.Thread(target=_stop_with, args=(sys.stdin.fileno(),), daemon=True).start()
    # As AWS's image does: many small predictions lose more by switching threads than they gain.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        limits = Limits.of(os.environ)
        probe = arguments.probe.read_bytes() if arguments.probe else None
        model = load(arguments.model.resolve(), os.environ)
        # What is loaded is never collected: a collection would copy the memory that the workers share.
        gc.collect()
        gc.freeze()
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
