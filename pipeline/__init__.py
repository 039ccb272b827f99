"""The pipeline's code: runs unchanged in a SageMaker container, in a Glue job and on a laptop."""
