"""Training that resumes exactly where it stopped."""
