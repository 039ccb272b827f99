"""A job inside the VPC: its service makes network interfaces there, with the job's own role."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam

from stacks.foundation.network import Network
from stacks.permissions import allow

# "Give SageMaker AI Training Jobs Access to Resources in Your Amazon VPC" (SageMaker Developer Guide); models need the same.
SAGEMAKER_READS = (
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
# "Giving Lambda functions access to resources in an Amazon VPC" (Lambda Developer Guide).
LAMBDA_ACTIONS = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)


def let_lambda_attach(role: iam.Role) -> None:
    """Let Lambda attach a function to its network with `role`, and the function's own code do nothing of it.

    Lambda checks these actions against *. It makes the calls outside of the function; only calls from inside carry the
    key of the Deny ("Using source function ARN to control function access behavior", Lambda Developer Guide).
    """
    function = cdk.Stack.of(role).format_arn(
        service="lambda",
        resource="function",
        resource_name="*",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )
    role.add_to_policy(iam.PolicyStatement(actions=list(LAMBDA_ACTIONS), resources=["*"]))
    role.add_to_policy(
        iam.PolicyStatement(
            effect=iam.Effect.DENY,
            actions=list(LAMBDA_ACTIONS),
            resources=["*"],
            conditions={"ArnLike": {"lambda:SourceFunctionArn": function}},
        )
    )


def allow_network_interfaces(
    role: iam.IRole,
    network: Network,
    *,
    subnets: Sequence[ec2.ISubnet],
    reads: Sequence[str],
    permissions: bool,
) -> None:
    """Let `role` make and remove interfaces in `subnets` of `network`, and nowhere else.

    `reads` are the Describe actions the service documents; `permissions` adds what SageMaker needs to attach an
    interface to its own instances. EC2 limits no Describe action to a resource.
    """
    stack = cdk.Stack.of(role)

    def arn(resource: str, name: str) -> str:
        return stack.format_arn(service="ec2", resource=resource, resource_name=name)

    interfaces = arn("network-interface", "*")
    places = [arn("subnet", subnet.subnet_id) for subnet in subnets]
    allow(
        role,
        ["ec2:CreateNetworkInterface"],
        [*places, arn("security-group", network.security_group.security_group_id), interfaces],
        because="An interface gets its id when it is made; subnet and security group are named.",
    )
    allow(
        role,
        [
            "ec2:DeleteNetworkInterface",
            *(
                ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterfacePermission"]
                if permissions
                else []
            ),
        ],
        [interfaces],
        because="An interface gets its id when it is made; the condition names the subnets.",
        conditions={"ArnEquals": {"ec2:Subnet": places}},
    )
    allow(role, reads, ["*"], because="EC2 limits no Describe action to a resource.")
