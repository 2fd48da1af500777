"""What a stage opens at its start, and what it minimises."""
