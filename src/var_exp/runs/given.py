"""What the program itself hands to the parts of a run; a configuration need not give it."""

GIVEN = {
    "data": {"spec", "num_classes", "model_names"},
    "layout": {"dataset", "spec", "model", "workers"},
    "method": {"seed"},
    "classes": {"siblings", "seed", "known"},
    "metric": {"model", "seed"},
    "logger": {"save_dir"},
}
"""Arguments that the program itself hands to the targets of a group."""
