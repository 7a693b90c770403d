"""From raw scans to cohorts and splits; knows nothing of networks."""
