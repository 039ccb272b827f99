"""AWS Glue as a service that runs: crawlers infer, jobs execute, rulesets judge, workflows go from one to the next.

MiniStack keeps the catalog and the definitions of jobs, crawlers and triggers; what happens with them happens here.
"""
