"""Training and fine-tuning of classifiers: recipes, their pictures, the loop."""
