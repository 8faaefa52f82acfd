"""Cross-validation: a run for each fold, the predictions for the samples that each left out, and one report."""
