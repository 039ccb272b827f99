"""How Glue enters the VPC."""

import aws_cdk as cdk
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.foundation.network import Network
from stacks.network_interfaces import allow_network_interfaces
from stacks.permissions import allow

# What AWSGlueServiceRole lets a job read to place itself into a subnet, without its buckets and `glue:*`.
READS = (
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
)


class NetworkConnection(Construct):
    """A connection of type NETWORK puts crawlers and jobs into a subnet without internet (Task 4.3: isolation).

    A connection names one subnet, and a job uses one connection: Glue needs no second zone, because a failed run can
    be repeated.
    """

    def __init__(self, scope: Construct, id: str, *, network: Network) -> None:
        super().__init__(scope, id)
        self._network, self._subnet = network, network.subnets[0]
        self.connection = glue.Connection(
            self,
            "Connection",
            type=glue.ConnectionType.NETWORK,
            network=glue.ConnectionNetwork.subnet(self._subnet),
            security_groups=[network.security_group],
            description="Isolated subnet: AWS services through VPC endpoints, no internet",
        )

    def admit(self, role: iam.IRole) -> None:
        """Let a crawler's or job's role use the connection: read it, and make interfaces in its subnet."""
        stack = cdk.Stack.of(self)

        def arn(service: str, resource: str, name: str | None = None) -> str:
            return stack.format_arn(service=service, resource=resource, resource_name=name)

        allow(role, ["glue:GetConnection"], [arn("glue", "catalog"), self.connection.connection_arn])
        allow_network_interfaces(role, self._network, subnets=[self._subnet], reads=READS, permissions=False)
        allow(role, ["ec2:DescribeVpcAttribute"], [arn("ec2", "vpc", self._network.vpc.vpc_id)])
        # Glue marks the interfaces it makes with this one tag.
        allow(
            role,
            ["ec2:CreateTags", "ec2:DeleteTags"],
            [arn("ec2", "network-interface", "*")],
            because="An interface gets its id when it is made; the condition admits Glue's own tag only.",
            conditions={"ForAllValues:StringEquals": {"aws:TagKeys": ["aws-glue-service-resource"]}},
        )
