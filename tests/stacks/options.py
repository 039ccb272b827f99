"""What the tests of the options ask of a template."""

from typing import Any

from tools.assembly import Template


def variants(template: Template, key: str = "ProductionVariants") -> list[dict[str, Any]]:
    """The variants of the stack's endpoint configuration."""
    found: list[dict[str, Any]] = template.only("AWS::SageMaker::EndpointConfig")["Properties"].get(key, [])
    return found


def unconditional(template: Template) -> set[str]:
    """The types of what exists before any model does."""
    return {resource["Type"] for resource in template.resources().values() if "Condition" not in resource}
