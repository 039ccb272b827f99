"""Two models behind one endpoint: by weight, or one in the shadow of the other."""

from collections.abc import Sequence

from aws_cdk import aws_sagemaker as sagemaker

from stacks.option_config import CHALLENGER, CHAMPION, AbConfig, ShadowConfig

_Variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty


def ab_variants(
    settings: AbConfig, *, champion: str, challenger: str
) -> Sequence[sagemaker.CfnEndpointConfig.ProductionVariantProperty]:
    """A request goes to one of two variants, by weight or as `TargetVariant` says (Task 3.1: A/B testing).

    The weights add up to 100, so that each is its variant's percentage.
    """
    weight = settings.challenger_percent
    return [
        _variant(settings, CHAMPION, champion, 100 - weight),
        _variant(settings, CHALLENGER, challenger, weight),
    ]


def shadow_variants(
    settings: ShadowConfig, *, champion: str, challenger: str
) -> tuple[
    sagemaker.CfnEndpointConfig.ProductionVariantProperty,
    sagemaker.CfnEndpointConfig.ProductionVariantProperty,
]:
    """Every request goes to the first; copies of a part go to the second, whose answers nobody gets (Task 3.1: shadow).

    The guide's example ("Shadow variants") gives both weight 1 and mirrors all; that a smaller weight mirrors the same
    part of the requests is not documented there, and has to be looked at in an account.
    """
    return (
        _variant(settings, CHAMPION, champion, 100),
        _variant(settings, CHALLENGER, challenger, settings.mirrored_percent),
    )


def _variant(
    settings: AbConfig | ShadowConfig, name: str, model: str, weight: int
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    return _Variant(
        variant_name=name,
        model_name=model,
        instance_type=settings.instance_type,
        initial_instance_count=settings.instance_count,
        initial_variant_weight=weight,
    )
