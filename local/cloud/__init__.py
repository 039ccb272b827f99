"""The embedded cloud: MiniStack on 127.0.0.1, and what it lacks, one file an idea.

`python -m local.cloud up` starts it; `cdk`, `aws`, boto3 and the SageMaker SDK talk to it by `AWS_ENDPOINT_URL`.
"""
