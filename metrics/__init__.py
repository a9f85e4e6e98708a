"""What is measured: one file a metric family, each a pure function of a reference and an output."""
