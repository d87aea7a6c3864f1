"""What the state machine of `test_state_machine.py` is made of: a stage, workers, a ledger of AWS, and a judge."""
