"""Amazon SageMaker as far as this project calls it: registry, models, endpoints, pipelines and jobs.

What is pure, such as the filters of batch transform, imports no MiniStack, so its tests run without a cloud.
"""
