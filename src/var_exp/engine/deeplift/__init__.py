"""DeepLIFT: a pass of the images beside their baseline, and multipliers between the two."""
