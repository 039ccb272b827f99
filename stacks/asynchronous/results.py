"""Who is told of an answer, and who of a failure."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.config import Config


class Results(Construct):
    """One topic for answers and one for failures, encrypted, TLS only (Task 3.1: asynchronous; Task 4.3).

    The caller has long gone when the answer is written, so SageMaker publishes where it lies. It does so with the
    model's role, which Foundation lets publish here by name (`Config.result_topics`); subscribe what needs the answers.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, key: kms.IKey) -> None:
        super().__init__(scope, id)
        success, error = config.result_topics
        self.success = sns.Topic(self, "Success", topic_name=success, master_key=key, enforce_ssl=True)
        self.error = sns.Topic(self, "Error", topic_name=error, master_key=key, enforce_ssl=True)
