"""How it is read: aggregation, intervals, ranks, tables and the site. Reads results, never a model."""
