"""AWS's real serving code around a model's inference.py, in its own process: requests in, responses out, as JSON lines.

The app is put together as `sagemaker_xgboost_container.serving.main` does it (aws/sagemaker-xgboost-container): the
user module's functions, sagemaker-containers' `Transformer` and its Flask `Worker`. Nothing listens on a port.
The arguments are a base folder (whose `model` is served) and the folder of the code.
"""

import collections
import collections.abc
import importlib
import json
import os
import sys
from pathlib import Path

base, code = Path(sys.argv[1]), Path(sys.argv[2])
os.environ["SAGEMAKER_BASE_DIR"] = str(base)
os.environ["SAGEMAKER_PROGRAM"] = "inference.py"
# Its generated protobuf module is older than the C++ runtime; AWS's image pins an older protobuf instead.
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
# AWS's image patches this name, gone since Python 3.10, in the package itself.
vars(collections)["Mapping"] = collections.abc.Mapping
sys.path.insert(0, str(code))

# The private names: the public `beta.framework` also imports what only training needs, down to an SSH client.
from sagemaker_containers import _env, _transformer, _worker  # noqa: E402

user = importlib.import_module(_env.ServingEnv().module_name)
transformer = _transformer.Transformer(
    model_fn=user.model_fn, input_fn=user.input_fn, predict_fn=user.predict_fn, output_fn=user.output_fn
)
transformer.initialize()
app = _worker.Worker(transform_fn=transformer.transform, module_name=user.__name__)
client = app.test_client()

for line in sys.stdin:
    request = json.loads(line)
    response = client.open(
        request["path"],
        method=request["method"],
        data=bytes.fromhex(request["body"]),
        headers=request["headers"],
    )
    answer = {
        "status": response.status_code,
        "type": response.content_type,
        "body": response.get_data(as_text=True),
        "headers": sorted(name.lower() for name in response.headers.keys()),  # noqa: SIM118 (it holds pairs)
    }
    sys.stdout.write(f"answer:{json.dumps(answer)}\n")
    sys.stdout.flush()
