"""Support matrix: every attribution method on every architecture, each cell run and verified."""
