"""The LightningModules: they join the parts and own no formula."""
