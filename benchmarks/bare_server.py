"""A peer of the serving benchmark: a bare XGBoost predict in a bare HTTP server, on 127.0.0.1.

It takes rows of encoded features as a JSON list of lists and answers a JSON list of scores. Nothing is checked,
encoded, limited or reported.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import xgboost

BOOSTER = xgboost.Booster(model_file=sys.argv[1])
BOOSTER.set_param({"nthread": 1})


class Handler(BaseHTTPRequestHandler):
    """One POST, one prediction."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Parse, predict, answer."""
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = BOOSTER.inplace_predict(np.array(rows, dtype=np.float32), validate_features=False)
        body = json.dumps(scores.tolist()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Daemon threads, so that the process ends when it is told to."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
