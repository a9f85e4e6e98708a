"""Golden values of the metrics, and the signals that they are of: does this machine measure what the others do?"""
