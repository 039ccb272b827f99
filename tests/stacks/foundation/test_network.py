"""An isolated stage: jobs reach AWS services, and nothing else."""

import json
from collections.abc import Callable

import pytest

from stacks.config import load
from tests.support import iam
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template, context

# Not called from inside the network: IAM and EC2 by the services themselves, streams and queues by Lambda's pollers.
FROM_OUTSIDE = {"iam", "ec2", "kinesis", "sqs", "ssm"}
# The name that a service's endpoint has where it is not the IAM prefix ("AWS services that integrate with PrivateLink").
ENDPOINT = {
    "cloudwatch": "monitoring",
    "ecr": "ecr.api",
    "sagemaker": "sagemaker.api",
}


@pytest.fixture(scope="module")
def isolated(assembly: Callable[[str], Assembly]) -> Assembly:
    return assembly("production")


@pytest.fixture(scope="module")
def foundation(isolated: Assembly) -> Template:
    return isolated.template("Foundation")


def test_a_stage_without_isolation_has_no_network(assembly: Callable[[str], Assembly]) -> None:
    types = {resource["Type"] for resource in assembly("sandbox").template("Foundation").resources().values()}
    assert not any(kind.startswith("AWS::EC2::") for kind in types)


def test_subnets_lie_in_as_many_zones_as_configured(foundation: Template) -> None:
    zones = [
        subnet["Properties"]["AvailabilityZone"]["Fn::Select"]
        for subnet in foundation.resources("AWS::EC2::Subnet").values()
    ]
    wanted = load(context("production")).foundation.availability_zones
    assert zones == [[number, {"Fn::GetAZs": ""}] for number in range(wanted)]


def test_no_route_leads_out(foundation: Template) -> None:
    assert foundation.resources("AWS::EC2::Route") == {}
    assert foundation.resources("AWS::EC2::InternetGateway") == {}
    assert foundation.resources("AWS::EC2::EgressOnlyInternetGateway") == {}
    assert foundation.resources("AWS::EC2::NatGateway") == {}


def test_no_subnet_gives_public_addresses(foundation: Template) -> None:
    subnets = foundation.resources("AWS::EC2::Subnet").values()
    assert {subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets} == {False}


def _endpoints(assembly: Assembly, kind: str) -> set[str]:
    resolver = Resolver(assembly, assembly.template("Foundation"))
    return {
        resolver.strings(found["Properties"]["ServiceName"])[0].removeprefix("com.amazonaws.us-east-1.")
        for found in assembly.template("Foundation").resources("AWS::EC2::VPCEndpoint").values()
        if found["Properties"]["VpcEndpointType"] == kind
    }


def test_every_service_that_a_role_inside_may_call_has_an_endpoint(isolated: Assembly) -> None:
    inside = {"lambda.amazonaws.com", "sagemaker.amazonaws.com", "glue.amazonaws.com"}
    called: set[str] = set()
    for template in isolated.templates.values():
        found = list(iam.statements(isolated, template))
        roles = {item.resource for item in found if item.kind == "trust" and inside & {*item.principals}}
        for item in found:
            # A role's policy is named after its role: "ModelRole1A2B3C4D" has "ModelRoleDefaultPolicy5E6F7A8B".
            if item.kind == "identity" and any(
                item.resource.startswith(f"{role[:-8]}DefaultPolicy") for role in roles
            ):
                called |= {action.split(":")[0] for action in item.actions}
    needed = {ENDPOINT.get(service, service) for service in called - FROM_OUTSIDE}
    assert {"s3"} == _endpoints(isolated, "Gateway")
    assert {"sagemaker.runtime", "ecr.dkr"} <= _endpoints(isolated, "Interface")
    assert needed - {"s3"} - _endpoints(isolated, "Interface") == set()


def test_endpoints_answer_jobs_over_tls_and_nobody_else(foundation: Template) -> None:
    groups = foundation.resources("AWS::EC2::SecurityGroup")
    (endpoints,) = [
        group["Properties"] for name, group in groups.items() if name.startswith("NetworkEndpoints")
    ]
    assert "SecurityGroupIngress" not in endpoints
    ingress = foundation.resources("AWS::EC2::SecurityGroupIngress")
    (rule,) = [
        found["Properties"]
        for found in ingress.values()
        if found["Properties"]["GroupId"]["Fn::GetAtt"][0].startswith("NetworkEndpoints")
    ]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)
    assert rule["SourceSecurityGroupId"]["Fn::GetAtt"][0].startswith("NetworkJobs")
    for endpoint in foundation.resources("AWS::EC2::VPCEndpoint").values():
        if endpoint["Properties"]["VpcEndpointType"] == "Interface":
            ((name, _),) = [group["Fn::GetAtt"] for group in endpoint["Properties"]["SecurityGroupIds"]]
            assert name.startswith("NetworkEndpoints")
            assert endpoint["Properties"]["PrivateDnsEnabled"] is True


def test_jobs_speak_tls_outward_and_anything_among_themselves(foundation: Template) -> None:
    groups = foundation.resources("AWS::EC2::SecurityGroup")
    (jobs,) = [group["Properties"] for name, group in groups.items() if name.startswith("NetworkJobs")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in jobs["SecurityGroupEgress"]] == [(443, 443)]
    assert "SecurityGroupIngress" not in jobs
    (rule,) = [
        found["Properties"]
        for found in foundation.resources("AWS::EC2::SecurityGroupIngress").values()
        if found["Properties"]["GroupId"]["Fn::GetAtt"][0].startswith("NetworkJobs")
    ]
    assert rule["SourceSecurityGroupId"] == rule["GroupId"]
    (egress,) = [
        found["Properties"]
        for found in foundation.resources("AWS::EC2::SecurityGroupEgress").values()
        if found["Properties"]["GroupId"]["Fn::GetAtt"][0].startswith("NetworkJobs")
    ]
    assert egress["DestinationSecurityGroupId"] == egress["GroupId"] == rule["GroupId"]
    for inside in (rule, egress):
        assert (inside["IpProtocol"], inside["FromPort"], inside["ToPort"]) == ("tcp", 0, 65535)


def test_endpoints_serve_the_principals_of_this_account_and_ecrs_layers_only(foundation: Template) -> None:
    own = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}},
    }
    for name, endpoint in foundation.resources("AWS::EC2::VPCEndpoint").items():
        statements = endpoint["Properties"]["PolicyDocument"]["Statement"]
        assert own in statements
        others = [statement for statement in statements if statement != own]
        if endpoint["Properties"]["VpcEndpointType"] == "Interface":
            assert others == []
        else:
            (layers,) = others
            assert layers["Action"] == "s3:GetObject", name
            assert "-starport-layer-bucket/*" in json.dumps(layers["Resource"])
