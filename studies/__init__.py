"""Short scripts, one for each group of published figures or tables; see README.md."""
