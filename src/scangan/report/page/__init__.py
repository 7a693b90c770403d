"""The page that a run ends in: one file with every study's verdict, and what it rests on."""
