"""What came out of a run: rows, figures, tests and verdicts. How it is shown is for `report`."""
