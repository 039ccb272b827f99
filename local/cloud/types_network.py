"""AWS::EC2 types that CloudFormation lacks here: rules of security groups, and flow logs."""

from __future__ import annotations

import functools
from typing import Any

from local.cloud import resources
from local.cloud.resources import Properties, Request

_RULE = (
    "GroupId",
    "IpProtocol",
    "FromPort",
    "ToPort",
    "CidrIp",
    "CidrIpv6",
    "SourceSecurityGroupId",
    "DestinationSecurityGroupId",
)
_FLOW_LOG = (
    "ResourceId",
    "ResourceType",
    "TrafficType",
    "LogDestination",
    "LogDestinationType",
    "LogGroupName",
)


def install(_cloud: object) -> None:
    """Register them."""
    for direction in ("ingress", "egress"):
        resources.register(
            f"AWS::EC2::SecurityGroup{direction.title()}",
            create=functools.partial(_create_rule, direction),
            update=functools.partial(_update_rule, direction),
            delete=functools.partial(_delete_rule, direction),
            attributes=_id,
            required=("IpProtocol",),
            optional=("Description",),
            replacing=_RULE,
        )
    resources.register(
        "AWS::EC2::FlowLog",
        create=_create_flow_log,
        delete=lambda flow_log, request: request.client("ec2").delete_flow_logs(FlowLogIds=[flow_log]),
        attributes=_id,
        required=("ResourceId", "ResourceType"),
        replacing=_FLOW_LOG,
        tags=("Tags", "list"),
    )


def _id(physical_id: str, _properties: Properties) -> Properties:
    return {"Id": physical_id}


def _create_rule(direction: str, request: Request) -> str:
    given = request.properties
    permission: dict[str, Any] = {"IpProtocol": str(given["IpProtocol"])}
    permission |= {port: int(given[port]) for port in ("FromPort", "ToPort") if port in given}
    described = {"Description": given["Description"]} if "Description" in given else {}
    peer = given.get("SourceSecurityGroupId", given.get("DestinationSecurityGroupId"))
    if peer:
        permission["UserIdGroupPairs"] = [{"GroupId": peer, **described}]
    if "CidrIp" in given:
        permission["IpRanges"] = [{"CidrIp": given["CidrIp"], **described}]
    if "CidrIpv6" in given:
        permission["Ipv6Ranges"] = [{"CidrIpv6": given["CidrIpv6"], **described}]
    authorize = getattr(request.client("ec2"), f"authorize_security_group_{direction}")
    rules = authorize(GroupId=given["GroupId"], IpPermissions=[permission])["SecurityGroupRules"]
    return str(rules[0]["SecurityGroupRuleId"])


def _update_rule(direction: str, rule: str, request: Request, _old: Properties) -> None:
    """Only the description changes in place."""
    update = getattr(request.client("ec2"), f"update_security_group_rule_descriptions_{direction}")
    update(
        GroupId=request.properties["GroupId"],
        SecurityGroupRuleDescriptions=[
            {"SecurityGroupRuleId": rule, "Description": request.properties.get("Description", "")}
        ],
    )


def _delete_rule(direction: str, rule: str, request: Request) -> None:
    revoke = getattr(request.client("ec2"), f"revoke_security_group_{direction}")
    revoke(GroupId=request.properties["GroupId"], SecurityGroupRuleIds=[rule])


def _create_flow_log(request: Request) -> str:
    given = {name: request.properties[name] for name in _FLOW_LOG if name in request.properties}
    given["ResourceIds"] = [given.pop("ResourceId")]
    if tags := request.properties.get("Tags"):
        given["TagSpecifications"] = [{"ResourceType": "vpc-flow-log", "Tags": tags}]
    return str(request.client("ec2").create_flow_logs(**given)["FlowLogIds"][0])
