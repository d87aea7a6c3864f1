"""
An AWS for tests, demos and benchmarks that refuses what AWS refuses: moto's objects, AWS's limits and manners.

    from phasesync.testing.aws_shim import AwsShim

    with AwsShim() as aws:
        client = boto3.client("secretsmanager", endpoint_url=aws.url, region_name="eu-west-1", ...)

`RULES` lists what is stricter than in moto, and where each rule was read. Needs the extra `demo` (moto).
"""

from phasesync.testing.aws_shim.clock import ShimClock
from phasesync.testing.aws_shim.errors import AwsError
from phasesync.testing.aws_shim.faults import DROP, Answer, When, garbled
from phasesync.testing.aws_shim.outsider import Outsider
from phasesync.testing.aws_shim.request import Operation
from phasesync.testing.aws_shim.rules import RULES, Rule
from phasesync.testing.aws_shim.shim import AwsShim

__all__ = [
    "DROP",
    "RULES",
    "Answer",
    "AwsError",
    "AwsShim",
    "Operation",
    "Outsider",
    "Rule",
    "ShimClock",
    "When",
    "garbled",
]
