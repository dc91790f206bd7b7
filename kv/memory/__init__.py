"""Arrays behind page ids: pools of pages, the tiers that they move between, and what was moved."""
