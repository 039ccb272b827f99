"""Configurations that no committed stage has, built inside the test's own process."""

import copy
from pathlib import Path

import aws_cdk as cdk

from stacks.config import load
from stacks.foundation.stack import Foundation
from stacks.ingestion.stack import Ingestion
from tools.assembly import Template, context


def _templates(out: Path, section: str, **knobs: object) -> tuple[Template, Template]:
    """Foundation and Ingestion of the sandbox, with `knobs` of one section of its configuration changed."""
    changed = copy.deepcopy(context("sandbox"))
    changed["stages"]["sandbox"][section] |= knobs
    config, app = load(changed), cdk.App(outdir=str(out), context=changed)
    foundation = Foundation(app, "Foundation", config=config)
    Ingestion(app, "Ingestion", config=config, foundation=foundation)
    assembly = app.synth()
    first, second = (
        Template(name, assembly.get_stack_by_name(config.stack_name(name)).template)
        for name in ("Foundation", "Ingestion")
    )
    return first, second


def test_an_on_demand_stream_has_no_shard_count(tmp_path: Path) -> None:
    """AWS refuses a shard count beside ON_DEMAND."""
    _, ingestion = _templates(tmp_path, "ingestion", stream_mode="ON_DEMAND")
    stream = ingestion.only("AWS::Kinesis::Stream")["Properties"]
    assert stream["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert "ShardCount" not in stream


def test_transfer_acceleration_is_for_uploads_only(tmp_path: Path) -> None:
    foundation, _ = _templates(tmp_path, "foundation", transfer_acceleration=True)
    accelerated = {
        name: bucket["Properties"]["AccelerateConfiguration"]
        for name, bucket in foundation.resources("AWS::S3::Bucket").items()
        if "AccelerateConfiguration" in bucket["Properties"]
    }
    assert [name[:3] for name in accelerated] == ["Raw"]
    assert list(accelerated.values()) == [{"AccelerationStatus": "Enabled"}]


def test_an_isolated_network_takes_the_zones_it_is_given(tmp_path: Path) -> None:
    foundation, ingestion = _templates(tmp_path, "foundation", isolation=True, availability_zones=2)
    assert len(foundation.resources("AWS::EC2::Subnet")) == 2
    assert len(ingestion.only("AWS::Lambda::Function")["Properties"]["VpcConfig"]["SubnetIds"]) == 2
