"""Who drives: from a composed configuration to a finished run. Hydra's edge ends here."""
