"""
An AWS for tests, demos and benchmarks that refuses what AWS refuses: moto's objects, with AWS's limits and checks.

    from phasesync.emulator import AwsEmulator

    with AwsEmulator() as aws:
        client = boto3.client("secretsmanager", endpoint_url=aws.url, region_name="eu-west-1", ...)

From a shell: `python -m phasesync.emulator --port 4566`. `RULES` lists what is stricter than in moto, and where each
rule was read. Needs the extra `phasesync[demo]` (moto).
"""

from phasesync.emulator.clock import EmulatorClock
from phasesync.emulator.errors import AwsError
from phasesync.emulator.faults import DROP, Answer, When, garbled
from phasesync.emulator.outsider import Outsider
from phasesync.emulator.request import Operation
from phasesync.emulator.rules import RULES, Rule
from phasesync.emulator.server import AwsEmulator, require_moto

__all__ = [
    "DROP",
    "RULES",
    "Answer",
    "AwsEmulator",
    "AwsError",
    "EmulatorClock",
    "Operation",
    "Outsider",
    "Rule",
    "When",
    "garbled",
    "require_moto",
]
