"""A function that may update Serving, and only through the narrow role."""

import aws_cdk as cdk
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.permissions import allow
from stacks.python_function import FunctionSettings, PythonFunction


class ReleaseFunction(Construct):
    """`UpdateStack` on one stack, bound to one CloudFormation role (Task 4.3: least privilege; Task 3.3: CD).

    Without a role in the call, the stack's own execution role would do the update: bootstrap's, an administrator. The
    condition key `cloudformation:RoleArn` refuses every call that does not pass the role that may change the endpoint
    and nothing else ("Control access with AWS Identity and Access Management", CloudFormation User Guide).
    """

    def __init__(
        self, scope: Construct, id: str, *, service: str, config: Config, foundation: Foundation
    ) -> None:
        super().__init__(scope, id)
        stack_name, update_role = config.stack_name("Serving"), foundation.serving_update_role
        self.function = PythonFunction(
            self,
            "Function",
            handler=f"lambdas.{service.replace('-', '_')}.handler",
            settings=FunctionSettings(
                timeout_seconds=60,
                memory_mib=256,
                foundation=config.foundation,
                key=foundation.key,
                network=foundation.network,
            ),
            environment={
                "SERVING_STACK_NAME": stack_name,
                "SERVING_UPDATE_ROLE_ARN": update_role.role_arn,
                "MODEL_PACKAGE_GROUP_NAME": foundation.model_package_group_name,
                "ENDPOINT_NAME": config.endpoint_name,
                "POWERTOOLS_SERVICE_NAME": service,
                "POWERTOOLS_METRICS_NAMESPACE": config.prefix,
            },
        ).function
        assert self.function.role  # noqa: S101 - PythonFunction always has one
        self.role = self.function.role
        # Without the id at the end, which changes when the stack is made anew.
        self.serving_stack = self._arn("cloudformation", "stack", f"{stack_name}/")
        stack = [f"{self.serving_stack}*"]
        any_id = "A stack's ARN ends in an id that changes when the stack is made anew; the name is exact."
        allow(self.role, ["cloudformation:DescribeStacks"], stack, because=any_id)
        allow(
            self.role,
            ["cloudformation:UpdateStack"],
            stack,
            because=any_id,
            conditions={"StringEquals": {"cloudformation:RoleArn": update_role.role_arn}},
        )
        allow(
            self.role,
            ["iam:PassRole"],
            [update_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}},
        )

    def may_describe(self, kind: str, name: str, *actions: str, because: str = "") -> None:
        """Let the function read SageMaker resources, such as ("endpoint", "flights", "DescribeEndpoint")."""
        allow(
            self.role,
            [f"sagemaker:{action}" for action in actions],
            [self._arn("sagemaker", kind, name)],
            because=because,
        )

    def _arn(self, service: str, resource: str, name: str) -> str:
        return cdk.Stack.of(self).format_arn(service=service, resource=resource, resource_name=name)
