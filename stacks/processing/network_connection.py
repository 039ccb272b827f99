"""How Glue enters the VPC."""

from aws_cdk import aws_glue as glue
from constructs import Construct

from stacks.foundation.network import Network


class NetworkConnection(Construct):
    """A connection of type NETWORK puts crawlers and jobs into a subnet without internet (Task 4.3: isolation).

    A connection names one subnet, and a job uses one connection: Glue needs no second zone, because a failed run can
    be repeated.
    """

    def __init__(self, scope: Construct, id: str, *, network: Network) -> None:
        super().__init__(scope, id)
        self.network = network
        self.subnet = network.subnets[0]
        self.connection = glue.Connection(
            self,
            "Connection",
            type=glue.ConnectionType.NETWORK,
            network=glue.ConnectionNetwork.subnet(self.subnet),
            security_groups=[network.security_group],
            description="Isolated subnet: AWS services through VPC endpoints, no internet",
        )
