"""Experiment trackers: TensorBoard, MLflow and Weights & Biases receive what a training yields."""
