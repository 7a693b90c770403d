"""Stand-ins for the real data sets, each written in its set's own format."""
