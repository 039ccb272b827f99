"""The load: so many requests a second, whatever the endpoint does, until its standard input is closed.

An open loop: a client that waits for its answer before it asks again slows down with a slow model and hides it.
Connections are kept; nothing is asked twice. Each request becomes one line of --out, and the last line says how many
were due.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import lifecycle
from local.cloud.place import ROOT, Place
from local.rollout.timeline import NO_ANSWER

# More than are ever in flight: a thread that is missing would make the loop a closed one.
THREADS = 96
_LONGEST_ANSWER = 300


class Client:
    """Asks one endpoint the same question, on many threads."""

    def __init__(self, place: Place, endpoint: str, body: bytes) -> None:
        config = Config(max_pool_connections=THREADS, read_timeout=75, retries={"max_attempts": 0})
        self._runtime = place.client("sagemaker-runtime", config=config)
        self._request = {
            "EndpointName": endpoint,
            "Body": body,
            "ContentType": "application/json",
            "Accept": "application/json",
        }

    def ask(self, number: int, due: float) -> dict[str, Any]:
        """One request, as a row of the timeline."""
        error = answer = ""
        try:
            answer = self._runtime.invoke_endpoint(**self._request)["Body"].read().decode()[:_LONGEST_ANSWER]
        except ClientError as refused:
            error = refused.response["Error"]["Code"]
        except (BotoCoreError, OSError):
            error = NO_ANSWER
        return {"number": number, "due": due, "done": time.time(), "error": error, "answer": answer}


def run(client: Client, rate: float, out: Path, stopped: threading.Event) -> None:
    """Send until `stopped`, then wait for every answer."""
    began, number = time.time(), 0
    with out.open("w", buffering=1) as file, ThreadPoolExecutor(THREADS) as pool:
        writing = threading.Lock()

        def one(number: int, due: float) -> None:
            row = json.dumps(client.ask(number, due))
            with writing:
                file.write(f"{row}\n")

        while not stopped.wait(max(0.0, began + number / rate - time.time())):
            pool.submit(one, number, began + number / rate)
            number += 1
        pool.shutdown(wait=True)
        file.write(json.dumps({"scheduled": number}) + "\n")


@contextlib.contextmanager
def running(place: Place, endpoint: str, rate: float, body: Path, out: Path) -> Iterator[None]:
    """The load as a process of its own; at the end of the block it has every answer. It ends with this process."""
    command = [sys.executable, "-m", "local.rollout.load", "--folder", str(place.folder)]
    command += ["--endpoint", endpoint, "--rate", str(rate), "--body", str(body), "--out", str(out)]
    # A group of its own: Ctrl-C is the runner's to tell.
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
            process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise


def main(argv: Sequence[str] | None = None) -> None:
    """Send until standard input is closed."""
    parser = argparse.ArgumentParser(prog="python -m local.rollout.load", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the cloud")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--body", type=Path, required=True, help="a file with the request's body")
    parser.add_argument("--out", type=Path, required=True, help="where the requests are written")
    options = parser.parse_args(argv)
    stopped = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=wait, daemon=True, name="stdin").start()
    client = Client(lifecycle.found(options.folder), options.endpoint, options.body.read_bytes())
    run(client, options.rate, options.out, stopped)


if __name__ == "__main__":
    main()
