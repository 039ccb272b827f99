"""A function that may update Serving, and only through the narrow role."""

import json
from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.permissions import allow
from stacks.python_function import FunctionSettings, PythonFunction
from stacks.release.followers import follower_stack_names
from stacks.release.results import may_tell, result_source

_ANY_ID = "A stack's ARN ends in an id that changes when the stack is made anew; the name is exact."


class ReleaseFunction(Construct):
    """`UpdateStack` on named stacks, bound to one CloudFormation role (Task 4.3: least privilege; Task 3.3: CD).

    Without a role in the call, the stack's own execution role would do the update: bootstrap's, an administrator. The
    condition key `cloudformation:RoleArn` refuses every call that does not pass the role that may change the endpoint
    and nothing else ("Control access with AWS Identity and Access Management", CloudFormation User Guide).

    It may write beside a version what became of it, and may not approve: a request that sets a status is refused.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        service: str,
        config: Config,
        foundation: Foundation,
        updates: Sequence[str],
    ) -> None:
        super().__init__(scope, id)
        update_role = foundation.serving_update_role
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
                "SERVING_STACK_NAME": config.stack_name("Serving"),
                "FOLLOWER_STACK_NAMES": json.dumps(follower_stack_names(config)),
                "SERVING_UPDATE_ROLE_ARN": update_role.role_arn,
                "MODEL_PACKAGE_GROUP_NAME": foundation.model_package_group_name,
                "ENDPOINT_NAME": config.endpoint_name,
                "RESULT_SOURCE": result_source(config),
                "POWERTOOLS_SERVICE_NAME": service,
                "POWERTOOLS_METRICS_NAMESPACE": config.prefix,
            },
        ).function
        assert self.function.role  # noqa: S101 - PythonFunction always has one
        self.role = self.function.role
        stacks = [f"{self.stack_prefix(name)}*" for name in updates]
        allow(self.role, ["cloudformation:DescribeStacks"], stacks, because=_ANY_ID)
        allow(
            self.role,
            ["cloudformation:UpdateStack"],
            stacks,
            because=_ANY_ID,
            conditions={"StringEquals": {"cloudformation:RoleArn": update_role.role_arn}},
        )
        allow(
            self.role,
            ["iam:PassRole"],
            [update_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}},
        )
        versions, every = f"{foundation.model_package_group_name}/*", "Every version of this one group."
        self.may("sagemaker", "DescribeModelPackage", "model-package", versions, because=every)
        self.may(
            "sagemaker",
            "UpdateModelPackage",
            "model-package",
            versions,
            because=every,
            conditions={"Null": {"sagemaker:ModelApprovalStatus": "true"}},
        )
        may_tell(self.role, config)

    def may(
        self,
        service: str,
        action: str,
        resource: str,
        name: str,
        *,
        because: str = "",
        conditions: Mapping[str, Mapping[str, object]] | None = None,
        arn_format: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME,
    ) -> None:
        """Let the function do one thing more, such as ("sagemaker", "DescribeEndpoint", "endpoint", "flights")."""
        arn = self._arn(service, resource, name, arn_format)
        allow(self.role, [f"{service}:{action}"], [arn], because=because, conditions=conditions)

    def may_compare(self, stack_name: str, *, endpoints: Sequence[str]) -> None:
        """Let the function see what the endpoints run, and whether an alarm of the stack rings."""
        for endpoint in endpoints:
            self.may("sagemaker", "DescribeEndpoint", "endpoint", endpoint)
        for kind, action in (("endpoint-config", "DescribeEndpointConfig"), ("model", "DescribeModel")):
            named = "CloudFormation names them; the action only reads."
            self.may("sagemaker", action, kind, "*", because=named)
        self.may(
            "cloudwatch",
            "DescribeAlarms",
            "alarm",
            f"{stack_name}-*",
            because="CloudFormation names the alarms; the action only reads.",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )

    def may_read_events_of(self, stack_name: str) -> None:
        """Let the function see why an update failed."""
        arn = f"{self.stack_prefix(stack_name)}*"
        allow(self.role, ["cloudformation:DescribeStackEvents"], [arn], because=_ANY_ID)

    def stack_prefix(self, stack_name: str) -> str:
        """A stack's ARN without the id at its end, which changes when the stack is made anew."""
        return self._arn("cloudformation", "stack", f"{stack_name}/")

    def _arn(
        self,
        service: str,
        resource: str,
        name: str,
        arn_format: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME,
    ) -> str:
        return cdk.Stack.of(self).format_arn(
            service=service, resource=resource, resource_name=name, arn_format=arn_format
        )
