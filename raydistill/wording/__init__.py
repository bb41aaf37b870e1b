"""How people write amounts of money and ranges of dates, and what they mean by it."""
