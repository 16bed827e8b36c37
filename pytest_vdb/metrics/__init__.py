"""One file a family; each metric is a torchmetrics.Metric with a functional twin."""
