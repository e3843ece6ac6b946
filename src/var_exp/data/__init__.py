"""What a model is explained on: data sets, layouts over them, batches."""
