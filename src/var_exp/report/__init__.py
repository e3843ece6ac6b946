"""From per-sample scores to figures, tables, pictures and the page of a run."""
