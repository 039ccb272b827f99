"""A network with no way out: jobs reach AWS services, and nothing else."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.config import Config

_SERVICES = ec2.InterfaceVpcEndpointAwsService
# The service, and who calls it from inside the network.
ENDPOINTS = {
    "CloudFormation": _SERVICES.CLOUDFORMATION,  # the release functions update Serving
    "CloudWatch": _SERVICES.CLOUDWATCH_MONITORING,  # metrics of jobs and models
    "EcrApi": _SERVICES.ECR,  # SageMaker jobs pull their image
    "EcrDocker": _SERVICES.ECR_DOCKER,
    "Events": _SERVICES.EVENTBRIDGE,  # the release functions tell results
    "Glue": _SERVICES.GLUE,  # jobs read the catalog; the quality gate starts its run
    "Kms": _SERVICES.KMS,  # Spark and SageMaker decrypt
    "Logs": _SERVICES.CLOUDWATCH_LOGS,  # Glue jobs write theirs from inside
    "SageMakerApi": _SERVICES.SAGEMAKER_API,  # the release functions look at the endpoint
    "SageMakerRuntime": _SERVICES.SAGEMAKER_RUNTIME,  # the stream's consumer asks for predictions
    "Sts": _SERVICES.STS,
    "XRay": _SERVICES.XRAY,  # traces of the functions
}


class Network(Construct):
    """Isolated subnets and VPC endpoints: no NAT, no internet gateway (Task 4.3: VPC, subnets, security groups).

    Data cannot leave by a route that does not exist, and the endpoints serve this account's principals only: keys of
    another account, brought in by a package, open nothing from here. What a job may do is decided by its role. Each
    interface endpoint costs about 7 $ a month and zone, so the list holds only what is called from inside. The default
    security group stays as AWS made it: nothing is in it, and emptying it takes a custom resource.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, logs: s3.IBucket) -> None:
        super().__init__(scope, id)
        zones = range(config.foundation.availability_zones)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr("10.0.0.0/16"),
            # An environment-agnostic stack offers two zones; asking the region at deploy time gives any number.
            availability_zones=[cdk.Fn.select(zone, cdk.Fn.get_azs()) for zone in zones],
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=20
                )
            ],
            nat_gateways=0,
            restrict_default_security_group=False,
        )
        self.vpc.add_flow_log(
            "FlowLog",
            destination=ec2.FlowLogDestination.to_s3(logs, "vpc"),
            traffic_type=ec2.FlowLogTrafficType.ALL,
        )
        self.subnets = list(self.vpc.isolated_subnets)
        self.security_group = self._jobs_group()
        group = self._endpoints_group()
        storage = self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        storage.add_to_policy(_image_layers())
        storage.add_to_policy(_own_principals())
        for name, service in ENDPOINTS.items():
            endpoint = self.vpc.add_interface_endpoint(
                name, service=service, security_groups=[group], open=False, private_dns_enabled=True
            )
            endpoint.add_to_policy(_own_principals())

    def _jobs_group(self) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self, "Jobs", vpc=self.vpc, description="Jobs, models and functions", allow_all_outbound=False
        )
        # S3's addresses lie outside the VPC, and its prefix list has another id in each region. Where there is no
        # route to the internet, "any address" means the S3 gateway and the endpoints.
        group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services over TLS")
        # Spark's driver and executors talk on ports of their choosing ("Setting up a VPC to connect to JDBC data
        # stores for AWS Glue": a self-referencing rule for all TCP ports).
        group.connections.allow_internally(ec2.Port.all_tcp(), "Spark driver and executors")
        return group

    def _endpoints_group(self) -> ec2.SecurityGroup:
        group = ec2.SecurityGroup(
            self, "Endpoints", vpc=self.vpc, description="VPC endpoints", allow_all_outbound=False
        )
        group.add_ingress_rule(self.security_group, ec2.Port.tcp(443), "Jobs over TLS")
        return group


def _own_principals() -> iam.PolicyStatement:
    """Whoever calls belongs to this account ("Establishing a data perimeter on AWS", its VPC endpoint policies)."""
    return iam.PolicyStatement(
        principals=[iam.AnyPrincipal()],
        actions=["*"],
        resources=["*"],
        conditions={"StringEquals": {"aws:PrincipalAccount": cdk.Aws.ACCOUNT_ID}},
    )


def _image_layers() -> iam.PolicyStatement:
    """ECR signs the links to an image's layers itself ("Minimum Amazon S3 bucket permissions for Amazon ECR")."""
    bucket = f"prod-{cdk.Aws.REGION}-starport-layer-bucket"
    return iam.PolicyStatement(
        principals=[iam.AnyPrincipal()],
        actions=["s3:GetObject"],
        resources=[f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/*"],
    )
